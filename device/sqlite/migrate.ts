import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type Database from 'better-sqlite3';
import { NewerSchemaError } from '../errors';

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
        database.exec(readFileSync(join(FOLDER, file), 'utf8'));
        database.pragma(`user_version = ${number}`);
      })
      .immediate();
  }
}
