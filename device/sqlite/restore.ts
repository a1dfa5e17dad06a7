import { chmodSync, closeSync, copyFileSync, openSync, renameSync, rmSync, statSync } from 'node:fs';
import { InvalidArgumentError, NotADatabaseError, WrongKeyError } from '../errors';
import { COMPANIONS, withDraft } from './backup';
import type { Connection } from './connection';
import { readGeneration, writeGeneration } from './generation';
import { movedError } from './move-state';
import { openConnection, refuseMissing, type SqliteSettings } from './open';

/** The settings of restoreSqlite. `path` and `source` are absolute. */
export interface RestoreSettings extends SqliteSettings {
  readonly source: string;
}

/**
 * Puts a backup, or with the same path the copy that another program has put there, in the place of a storage: as a
 * whole or, after an error or a crash, not at all.
 * @returns the number of the storage's generation, which is greater than any before.
 */
export function restoreSqlite(settings: RestoreSettings): number {
  const { path, source, generation = 0 } = settings;
  refuseMissing(source);
  if (source !== path && sizeOf(`${source}-wal`) > 0) {
    throw new InvalidArgumentError(
      'source',
      'must be a backup, not a storage in use; make it with backupDeviceStorage',
    );
  }
  // Throws if the file there is not this device's, because it would be lost.
  const replaced = sizeOf(path) > 0 ? openConnection({ ...settings, create: false }) : null;
  try {
    replaced?.refuseMoved();
    replaced?.lockOthersOut();
    return withDraft(path, (draft) => {
      if (source === path) {
        closeSync(openSync(draft, 'wx', 0o600));
        replaced?.copyTo(draft);
      } else {
        copyFileSync(source, draft);
        chmodSync(draft, 0o600);
      }
      const next = 1 + Math.max(generation, replaced?.read(() => readGeneration(replaced)) ?? 0);
      const restored = adopt({ ...settings, path: draft, create: false }, source, next);
      // SQLite would take a -wal for the newer part of any file of that name.
      for (const suffix of COMPANIONS) rmSync(`${path}${suffix}`, { force: true });
      // Windows does not replace an open file.
      if (process.platform === 'win32') replaced?.close();
      renameSync(draft, path);
      return restored;
    });
  } finally {
    replaced?.close();
  }
}

/** Checks the copy of a backup, and makes it a storage that can be used. Returns the number of its generation. */
function adopt(settings: SqliteSettings, source: string, leastGeneration: number): number {
  const connection = openCopy(settings, source);
  try {
    connection.checkIntegrity();
    const moved = movedError(connection, source);
    if (moved !== null) throw moved;
    const generation = connection.writeNow(() => {
      const next = Math.max(leastGeneration, readGeneration(connection) + 1);
      writeGeneration(connection, next);
      dropWhatMayBeUsed(connection);
      return next;
    });
    connection.checkpoint();
    return generation;
  } finally {
    connection.close();
  }
}

/** Opens the copy of a backup. Errors name the backup. */
function openCopy(settings: SqliteSettings, source: string): Connection {
  try {
    return openConnection(settings);
  } catch (cause) {
    if (cause instanceof WrongKeyError) throw new WrongKeyError(source, { cause });
    if (cause instanceof NotADatabaseError) throw new NotADatabaseError(source, cause.found, { cause });
    throw cause;
  }
}

/**
 * Drops every cached coin, and remembers it as used: it may have been selected since the backup was made. Drops the
 * pending requests too: their repeats may be answered with coins that were stored and selected since.
 */
function dropWhatMayBeUsed(connection: Connection): void {
  connection
    .prepare(
      `INSERT INTO used_coin (contact_id, key_id, expires_at)
       SELECT contact_id, key_id, expires_at FROM inventory_coin WHERE true
       ON CONFLICT (contact_id, key_id) DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)`,
    )
    .run();
  connection.prepare('DELETE FROM inventory_coin').run();
  connection.prepare('DELETE FROM open_request').run();
}

function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}
