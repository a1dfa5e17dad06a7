import { type Config, readConfig } from '../config';
import { openPostgres } from '../database/open';
import type { Database } from '../database/pool';
import { requireSchema } from '../database/preflight';
import { createLogger } from '../logger';

/** A retire waits for the statements that are under way, and its own may take long on a big stock, in milliseconds. */
const PATIENCE = { statementTimeoutMs: 600_000, lockTimeoutMs: 60_000 };

/** Does the work on the database that the environment names; where there is none, on the embedded one, which is then started. */
export async function withDatabase<T>(
  work: (db: Database, config: Config) => Promise<T>,
  { schema }: { readonly schema: 'current' | 'any' } = { schema: 'current' },
): Promise<T> {
  const own = readConfig(process.env);
  const config = schema === 'current' ? { ...own, ...PATIENCE } : own;
  const postgres = await openPostgres(config, createLogger('warn'));
  try {
    if (schema === 'current') await requireSchema(postgres.db, config.migrationsDir);
    return await work(postgres.db, config);
  } finally {
    await postgres.close();
  }
}

/** For the help of every command that uses it. */
export const WHICH_DATABASE = `The database is DATABASE_URL, or the embedded one in AQM_DATA_DIR. Services may run or not.`;
