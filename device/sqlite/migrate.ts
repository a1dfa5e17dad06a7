import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type Database from 'better-sqlite3';
import { RECORD_KINDS } from '../contract/device-record';
import { NewerSchemaError } from '../errors';
import { tableName } from './move-state';

const FOLDER = join(__dirname, 'migrations');

interface Migration {
  readonly number: number;
  readonly file: string;
}

/** Files are named 0001_what_it_does.sql and numbered without gaps; user_version holds the last one applied. */
function listMigrations(): Migration[] {
  return readdirSync(FOLDER)
    .filter((file) => file.endsWith('.sql'))
    .sort()
    .map((file) => ({ number: Number.parseInt(file, 10), file }));
}

function schemaVersion(database: Database.Database): number {
  return Number(database.pragma('user_version', { simple: true }));
}

export function refuseNewerSchema(database: Database.Database): void {
  const found = schemaVersion(database);
  const supported = listMigrations().length;
  if (found > supported) throw new NewerSchemaError(found, supported);
}

/** Brings the schema up to this release, each migration in one transaction, however many processes start at once. */
export function migrate(database: Database.Database): void {
  for (const { number, file } of listMigrations()) {
    if (schemaVersion(database) >= number) continue;
    database
      .transaction(() => {
        // Another process may have been first.
        if (schemaVersion(database) >= number) return;
        const fenced = renameTables(database, { fenced: true });
        database.exec(readFileSync(join(FOLDER, file), 'utf8'));
        if (fenced) renameTables(database, { fenced: false });
        database.pragma(`user_version = ${number}`);
      })
      .immediate();
  }
}

/**
 * A storage that is one side of a copy keeps its tables under other names, but migrations know the usual ones. Tables
 * that a migration made are fenced with the others.
 * @returns whether there were any of these names.
 */
function renameTables(database: Database.Database, { fenced }: { readonly fenced: boolean }): boolean {
  const there = database.prepare<[string], number>("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?");
  const kinds = RECORD_KINDS.filter((kind) => there.get(tableName(kind, fenced)) !== undefined);
  for (const kind of kinds) {
    database.exec(`ALTER TABLE ${tableName(kind, fenced)} RENAME TO ${tableName(kind, !fenced)}`);
  }
  return kinds.length > 0;
}
