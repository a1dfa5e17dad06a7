import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { sql } from 'kysely';
import { type Migration, type MigrationResultSet, Migrator } from 'kysely/migration';
import { DatabaseError } from 'pg';
import { DatabaseUnavailableError } from '../errors';
import { run } from './connection';
import { missingRights } from './creation-rights';
import type { Database } from './pool';
import { toStoreError } from './sqlstate';
import { UnusableDatabaseError } from './unusable-database-error';

export type SchemaState =
  | { readonly state: 'current' }
  | { readonly state: 'empty' }
  | { readonly state: 'older'; readonly missing: string[] }
  | { readonly state: 'newer'; readonly unknown: string[] };

/** A migration that has been running for a while. */
export interface MigrationProgress {
  /** The migration that this process runs; undefined while it waits for another process that migrates. */
  readonly migration: string | undefined;
  /** The time since the migration, or the wait, began. */
  readonly seconds: number;
  /** The present work of PostgreSQL, if it reports one: the phase of a CREATE INDEX, or the wait for a lock. */
  readonly doing: string | undefined;
}

export interface MigrateOptions {
  /** Receives the progress in regular intervals, because a migration may take hours. */
  readonly onProgress?: (progress: MigrationProgress) => void;
  /** The interval between two reports, in milliseconds (default 10,000). */
  readonly reportIntervalMs?: number;
  /** Interrupts the wait for another process, with its reason. */
  readonly stop?: AbortSignal | undefined;
}

const REPORT_INTERVAL_MS = 10_000;
/** The pause between two attempts to get the lock of the migrations, in milliseconds. */
const LOCK_INTERVAL_MS = 200;

/** Reads the numbered SQL files, by name without the extension. */
function readMigrations(folder: string, onBegin: (name: string) => void = () => {}): Record<string, Migration> {
  const read = (file: string) => sql.raw(readFileSync(join(folder, file), 'utf8'));
  const names = readdirSync(folder)
    .filter((file) => file.endsWith('.up.sql'))
    .map((file) => file.slice(0, -'.up.sql'.length));
  return Object.fromEntries(
    names.map((name): [string, Migration] => [
      name,
      {
        up: async (db) => {
          onBegin(name);
          await read(`${name}.up.sql`).execute(db);
        },
        down: async (db) => {
          onBegin(name);
          await read(`${name}.down.sql`).execute(db);
        },
      },
    ]),
  );
}

function migrator(db: Database, folder: string, onBegin?: (name: string) => void): Migrator {
  return new Migrator({ db, provider: { getMigrations: async () => readMigrations(folder, onBegin) } });
}

/**
 * Runs the missing migrations. Any number of processes may call this at the same time: one
 * migrates, the others wait.
 * @param db a pool whose connections wait long enough for an answer (open.ts, `withLongTimeouts`)
 * @returns the names of the migrations that this call ran
 * @throws UnusableDatabaseError if the role must not create tables, or a migration failed. Nothing
 *   was changed then
 */
export async function migrateUp(db: Database, folder: string, options: MigrateOptions = {}): Promise<string[]> {
  return withLock(db, options, async (transaction, onBegin) => {
    await createMigrationTables(transaction);
    return namesOf(await migrator(transaction, folder, onBegin).migrateToLatest());
  });
}

/**
 * Undoes the latest migration.
 * @param options.evenIfData also if tables have rows that this could delete
 * @returns its name, or nothing
 * @throws UnusableDatabaseError if tables have rows, or the migration failed. Nothing was changed then
 */
export async function migrateDown(
  db: Database,
  folder: string,
  { evenIfData = false, ...options }: MigrateOptions & { readonly evenIfData?: boolean } = {},
): Promise<string[]> {
  return withLock(db, options, async (transaction, onBegin) => {
    const tables = evenIfData ? [] : await tablesWithData(transaction);
    if (tables.length > 0) {
      throw new UnusableDatabaseError(
        `The database has data (rows in ${tables.join(', ')}), and undoing a migration may delete it: coins in stock would be lost, and coins that were handed out could be uploaded and handed out again. Nothing was changed. To undo the migration anyway, run "aqm migrate down --even-if-data".`,
      );
    }
    return namesOf(await migrator(transaction, folder, onBegin).migrateDown());
  });
}

/** Waits while another process migrates. Returns at once if none does. */
export async function awaitMigration(db: Database, options: MigrateOptions = {}): Promise<void> {
  await withLock(db, options, async () => {});
}

/**
 * Returns the tables about users (they have a column `user_…`) with rows. Migrations and services
 * fill the others by themselves.
 */
async function tablesWithData(db: Database): Promise<string[]> {
  const { rows: tables } = await sql<{ name: string }>`
SELECT DISTINCT relname AS name
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
  AND attname ^@ 'user_' AND NOT attisdropped
ORDER BY relname`.execute(db);
  const filled: string[] = [];
  for (const { name } of tables) {
    const { rows } = await sql`SELECT FROM ${sql.table(name)} LIMIT 1`.execute(db);
    if (rows.length > 0) filled.push(name);
  }
  return filled;
}

/**
 * Creates the tables in which Kysely records what ran. Kysely would do it too, but an error would
 * be hidden by the next one, "current transaction is aborted".
 */
async function createMigrationTables(db: Database): Promise<void> {
  const { rows } = await sql<{ there: boolean }>`
SELECT to_regclass('kysely_migration') IS NOT NULL AND to_regclass('kysely_migration_lock') IS NOT NULL AS there`.execute(
    db,
  );
  if (rows[0]?.there) return;
  const missing = await missingRights(db);
  if (missing) {
    throw new UnusableDatabaseError(
      `The database cannot be migrated: ${missing.problem}. To correct it, ${missing.remedy}.`,
    );
  }
  await sql`
CREATE TABLE IF NOT EXISTS kysely_migration (name varchar(255) NOT NULL PRIMARY KEY, timestamp varchar(255) NOT NULL);
CREATE TABLE IF NOT EXISTS kysely_migration_lock (
  id varchar(255) NOT NULL PRIMARY KEY, is_locked integer NOT NULL DEFAULT 0
)`.execute(db);
}

/**
 * The id of the advisory lock. It is that of Kysely's migrator, which earlier versions of the
 * service used.
 */
const LOCK = '3853314791062309107';

/**
 * Runs `work` in a transaction that holds an advisory lock. The lock belongs to the transaction,
 * because a lock of the session, as Kysely takes it, would stay with a connection of the pooler.
 * While another process has it, the lock is tried again after pauses, because a statement that
 * waits for it would occupy a connection of the pooler for as long. PostgreSQL's timeouts are
 * switched off, because they could interrupt long statements.
 */
async function withLock<T>(
  db: Database,
  { onProgress = () => {}, reportIntervalMs = REPORT_INTERVAL_MS, stop }: MigrateOptions,
  work: (transaction: Database, onBegin: (migration: string) => void) => Promise<T>,
): Promise<T> {
  const begin = performance.now();
  for (let reports = 1; ; await setTimeout(LOCK_INTERVAL_MS)) {
    const done = await withLockNow(db, onProgress, reportIntervalMs, work);
    if (done) return done.result;
    stop?.throwIfAborted();
    const waitedMs = performance.now() - begin;
    if (waitedMs < reports * reportIntervalMs) continue;
    reports += 1;
    onProgress({ migration: undefined, seconds: Math.round(waitedMs / 1000), doing: undefined });
  }
}

/** Does the same if no other process has the lock. @returns undefined if one has it */
async function withLockNow<T>(
  db: Database,
  onProgress: (progress: MigrationProgress) => void,
  reportIntervalMs: number,
  work: (transaction: Database, onBegin: (migration: string) => void) => Promise<T>,
): Promise<{ readonly result: T } | undefined> {
  try {
    return await db.transaction().execute(async (transaction) => {
      await sql`SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true)`.execute(
        transaction,
      );
      const { rows } = await sql<{ locked: boolean; pid: number }>`
SELECT pg_try_advisory_xact_lock(${LOCK}::bigint) AS locked, pg_backend_pid() AS pid`.execute(transaction);
      const [lock] = rows;
      if (!lock?.locked) return undefined;
      let current: { readonly migration: string; readonly since: number } | undefined;
      const report = async (): Promise<void> => {
        if (!current) return;
        const { migration, since } = current;
        const doing = await activityOf(db, lock.pid).catch(() => undefined);
        onProgress({ migration, seconds: Math.round((performance.now() - since) / 1000), doing });
      };
      const timer = setInterval(() => void report(), reportIntervalMs);
      try {
        const onBegin = (migration: string) => {
          current = { migration, since: performance.now() };
        };
        return { result: await work(transaction, onBegin) };
      } finally {
        clearInterval(timer);
      }
    });
  } catch (error) {
    throw error instanceof UnusableDatabaseError ? error : toStoreError(error);
  }
}

/** Returns what a process of PostgreSQL does, if it waits for a lock or creates an index. */
async function activityOf(db: Database, pid: number): Promise<string | undefined> {
  const [found] = await run(
    db,
    sql<{ doing: string | null }>`
SELECT CASE WHEN a.wait_event_type = 'Lock'
  THEN 'waits for a lock of the process ' || array_to_string(pg_blocking_pids(a.pid), ', ') || ' of PostgreSQL'
  ELSE 'creates an index: ' || i.phase || coalesce(', ' || 100 * i.blocks_done / nullif(i.blocks_total, 0) || ' %', '')
  END AS doing
FROM pg_stat_activity a LEFT JOIN pg_stat_progress_create_index i USING (pid)
WHERE a.pid = ${pid}`,
  );
  return found?.doing ?? undefined;
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
  if (error) throw failed(error, results.find(({ status }) => status === 'Error')?.migrationName);
  return results.map((result) => result.migrationName);
}

/** Names the migration in the error of its statement, unless PostgreSQL has gone away. */
function failed(error: unknown, migration: string | undefined): unknown {
  if (error instanceof DatabaseError && toStoreError(error) instanceof DatabaseUnavailableError) return error;
  const { message, code } = error as Partial<DatabaseError>;
  const what = migration === undefined ? 'The database cannot be migrated' : `The migration ${migration} failed`;
  const sqlState = code === undefined ? '' : ` (SQLSTATE ${code})`;
  return new UnusableDatabaseError(`${what}, and nothing was changed: ${message}${sqlState}.`, { cause: error });
}
