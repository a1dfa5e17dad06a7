import { randomUUID } from 'node:crypto';
import { closeSync, existsSync, openSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { InvalidArgumentError } from '../errors';
import { codeOf, fileError, syncFile, syncFolder } from '../synced-files';
import type { Connection } from './connection';

/** The files that SQLite keeps beside a database. */
export const COMPANIONS: readonly string[] = ['-wal', '-shm', '-journal'];

/**
 * Writes a consistent copy of the open storage at `path` to a new file, under another name until it is complete and synced.
 * `beginGeneration` is called after the copy was made and before it can be found, so that the copy is the older one.
 */
export function backUp(connection: Connection, path: string, target: string, beginGeneration: () => void): void {
  connection.refuseMoved();
  if (COMPANIONS.some((suffix) => target === `${path}${suffix}`)) {
    throw new InvalidArgumentError('target', 'must not be a file of the storage itself');
  }
  if (existsSync(target)) throw new InvalidArgumentError('target', 'must name a file that does not exist yet');
  withDraft(target, (draft) => {
    closeSync(openSync(draft, 'wx', 0o600));
    connection.copyTo(draft);
    syncFile(draft);
    beginGeneration();
    renameSync(draft, target);
  });
}

/** Lends the name of a file beside `file`, and removes what is left of it at the end. Names errors of the file system. */
export function withDraft<T>(file: string, work: (draft: string) => T): T {
  const draft = `${file}.${randomUUID()}`;
  try {
    const result = work(draft);
    syncFolder(dirname(file));
    return result;
  } catch (cause) {
    throw codeOf(cause) === undefined ? cause : fileError(cause, file);
  } finally {
    for (const suffix of ['', ...COMPANIONS]) rmSync(`${draft}${suffix}`, { force: true });
  }
}
