import { type Config, readConfig } from '../config';
import { type OpenPostgres, openPostgres } from '../database/open';
import type { Database } from '../database/pool';
import { requireSchema } from '../database/preflight';
import { describeDatabase, requireDatabase } from '../database-location';
import { createLogger } from '../logger';

/** A retire waits for running statements, and its own statements may take long on a big stock; in milliseconds. */
const LONG_TIMEOUTS = { statementTimeoutMs: 600_000, lockTimeoutMs: 60_000 };

/**
 * Runs the work on the database of the environment, or on the embedded one, which is started if it does not run. Prints
 * first which one that is.
 * @throws ConfigError if there is none, UnusableDatabaseError if the schema is not current, DatabaseUnavailableError
 */
export async function withDatabase<T>(
  work: (db: Database, config: Config, postgres: OpenPostgres) => Promise<T>,
  { schema }: { readonly schema: 'current' | 'any' } = { schema: 'current' },
): Promise<T> {
  const own = readConfig(process.env);
  printDatabase(own);
  requireDatabase(own, { creates: false });
  const config = schema === 'current' ? { ...own, ...LONG_TIMEOUTS } : own;
  // The connection that fails ends the command with a sentence. The embedded PostgreSQL also reports what it repairs.
  const postgres = await openPostgres(config, createLogger(config.databaseUrl === undefined ? 'warn' : 'error'));
  try {
    if (schema === 'current') await requireSchema(postgres.db, config.migrationsDir);
    return await work(postgres.db, config, postgres);
  } finally {
    await postgres.close();
  }
}

/** Prints on stderr which database a command acts on. */
export function printDatabase(config: Config): void {
  console.error(`database: ${describeDatabase(config)}`);
}

/** A paragraph for the help of every command that uses the database. */
export const WHICH_DATABASE =
  'The database is DATABASE_URL, or the embedded one in AQM_DATA_DIR; stderr begins with its name. Safe to\nrun while services are up.';
