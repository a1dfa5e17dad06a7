import type Database from 'better-sqlite3';
import { RECORD_KINDS } from '../contract/device-record';
import { NewerSchemaError } from '../errors';
import { MIGRATION_TEXTS } from './migration-texts';
import { tableName } from './move-state';

interface Migration {
  readonly number: number;
  readonly sql: string;
}

/**
 * Lists the migrations. Their files are named 0001_what_it_does.sql and numbered without gaps; user_version holds the
 * number of the last one applied.
 */
function listMigrations(): Migration[] {
  return Object.entries(MIGRATION_TEXTS)
    .map(([file, sql]) => ({ number: Number.parseInt(file, 10), sql }))
    .sort((a, b) => a.number - b.number);
}

function schemaVersion(database: Database.Database): number {
  return Number(database.pragma('user_version', { simple: true }));
}

/** Throws NewerSchemaError if a newer release has migrated the file. */
export function refuseNewerSchema(database: Database.Database): void {
  const found = schemaVersion(database);
  const supported = listMigrations().length;
  if (found > supported) throw new NewerSchemaError(found, supported);
}

/**
 * Brings the schema up to this release, each migration in one transaction. Any number of processes may call it at once.
 */
export function migrate(database: Database.Database): void {
  for (const { number, sql } of listMigrations()) {
    if (schemaVersion(database) >= number) continue;
    database
      .transaction(() => {
        // Another process may have applied it while this one waited for the lock.
        if (schemaVersion(database) >= number) return;
        const wereRenamed = renameTables(database, { areRenamed: true });
        database.exec(sql);
        if (wereRenamed) renameTables(database, { areRenamed: false });
        database.pragma(`user_version = ${number}`);
      })
      .immediate();
  }
}

/**
 * Renames the tables back for a migration, and away again after it: a storage that takes part in a move keeps its
 * tables under other names (move-state.ts), but migrations use the usual ones. Tables that a migration created are
 * renamed with the others.
 * @returns true if any table had such a name.
 */
function renameTables(database: Database.Database, { areRenamed }: { readonly areRenamed: boolean }): boolean {
  const there = database.prepare<[string], number>("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?");
  const kinds = RECORD_KINDS.filter((kind) => there.get(tableName(kind, areRenamed)) !== undefined);
  for (const kind of kinds) {
    database.exec(`ALTER TABLE ${tableName(kind, areRenamed)} RENAME TO ${tableName(kind, !areRenamed)}`);
  }
  return kinds.length > 0;
}
