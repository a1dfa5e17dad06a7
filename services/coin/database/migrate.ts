import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sql } from 'kysely';
import { type Migration, type MigrationInfo, type MigrationResultSet, Migrator } from 'kysely/migration';
import { run } from './connection';
import type { Database } from './pool';

export type SchemaState =
  | { readonly state: 'current' }
  | { readonly state: 'empty' }
  | { readonly state: 'older'; readonly missing: string[] }
  | { readonly state: 'newer'; readonly unknown: string[] };

/** Reads the numbered SQL files, by name without the extension. */
function readMigrations(folder: string): Record<string, Migration> {
  const read = (file: string) => sql.raw(readFileSync(join(folder, file), 'utf8'));
  const names = readdirSync(folder)
    .filter((file) => file.endsWith('.up.sql'))
    .map((file) => file.slice(0, -'.up.sql'.length));
  return Object.fromEntries(
    names.map((name): [string, Migration] => [
      name,
      {
        up: async (db) => {
          await read(`${name}.up.sql`).execute(db);
        },
        down: async (db) => {
          await read(`${name}.down.sql`).execute(db);
        },
      },
    ]),
  );
}

function migrator(db: Database, folder: string): Migrator {
  return new Migrator({ db, provider: { getMigrations: async () => readMigrations(folder) } });
}

/**
 * Runs the missing migrations. Any number of processes may call this at the same time: one
 * migrates, the others wait.
 * @returns the names of the migrations that this call ran
 */
export async function migrateUp(db: Database, folder: string): Promise<string[]> {
  return withLock(db, async (transaction) => namesOf(await migrator(transaction, folder).migrateToLatest()));
}

/** Undoes the latest migration. @returns its name, or nothing */
export async function migrateDown(db: Database, folder: string): Promise<string[]> {
  return withLock(db, async (transaction) => namesOf(await migrator(transaction, folder).migrateDown()));
}

/**
 * The id of the advisory lock. It is that of Kysely's migrator, which earlier versions of the
 * service used.
 */
const LOCK = '3853314791062309107';

/**
 * Runs `work` in a transaction that holds an advisory lock. The lock belongs to the transaction,
 * because a lock of the session, as Kysely takes it, would stay with a connection of the pooler.
 * The role's timeouts are switched off, because they could interrupt long statements.
 */
function withLock<T>(db: Database, work: (transaction: Database) => Promise<T>): Promise<T> {
  return db.transaction().execute(async (transaction) => {
    await sql`SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true)`.execute(
      transaction,
    );
    await sql`SELECT pg_advisory_xact_lock(${LOCK}::bigint)`.execute(transaction);
    return work(transaction);
  });
}

/** Returns every migration that this version knows, and when it ran. */
export async function migrationStatus(db: Database, folder: string): Promise<readonly MigrationInfo[]> {
  return migrator(db, folder).getMigrations();
}

/** Compares the database's schema with the migrations that this version knows. Changes nothing. */
export async function schemaState(db: Database, folder: string): Promise<SchemaState> {
  const known = Object.keys(readMigrations(folder)).sort();
  const [table] = await run(db, sql<{ there: boolean }>`SELECT to_regclass('kysely_migration') IS NOT NULL AS there`);
  const rows = table?.there
    ? await run(db, sql<{ name: string }>`SELECT name FROM kysely_migration ORDER BY name`)
    : [];
  const done = rows.map((row) => row.name);
  const unknown = done.filter((name) => !known.includes(name));
  const missing = known.filter((name) => !done.includes(name));
  if (unknown.length > 0) return { state: 'newer', unknown };
  if (done.length === 0) return { state: 'empty' };
  return missing.length > 0 ? { state: 'older', missing } : { state: 'current' };
}

function namesOf({ error, results = [] }: MigrationResultSet): string[] {
  if (error) throw error;
  return results.map((result) => result.migrationName);
}
