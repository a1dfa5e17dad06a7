import { sql } from 'kysely';
import pino from 'pino';
import { EmbeddedPostgres } from '../services/coin/database/embedded-postgres';
import { migrateUp } from '../services/coin/database/migrate';
import { openDatabase } from '../services/coin/database/pool';
import { partitionByUser } from './partitions';
import { PgBouncer } from './pgbouncer';
import { databaseSettings, MIGRATIONS, runAsAdmin, setRoleTimeouts, TEMPLATE, TIMEOUTS } from './test-database';

/** The PostgreSQL of a run of jest. */
export interface RunPostgres {
  /** The URL of the database "postgres" behind the pooler; undefined without one. */
  readonly poolerUrl: string | undefined;
  close(): Promise<void>;
}

/**
 * Starts the one PostgreSQL of a run of jest, with a migrated template from which every test clones its database.
 * The environment chooses what it is; see jest-global-setup.ts.
 */
export default async function startRunPostgres(
  folder: string,
  binariesPackage: string | undefined,
): Promise<RunPostgres> {
  const postgres = await EmbeddedPostgres.open(folder, {
    log: pino({ level: 'error' }, pino.destination(2)),
    binariesPackage,
    // Room for every worker of jest and for the statements of every database, and no checkpoints but those of DROP DATABASE.
    settings: [
      'shared_preload_libraries=pg_stat_statements',
      'pg_stat_statements.max=50000',
      'max_connections=500',
      'max_wal_size=8GB',
      'checkpoint_timeout=1h',
    ],
  });
  try {
    await createTemplate();
    const pgbouncer = process.env.TEST_POOLER === 'pgbouncer' ? await startPooler(folder) : undefined;
    return {
      poolerUrl: pgbouncer?.url('postgres'),
      close: async () => {
        await pgbouncer?.stop();
        await postgres.close();
      },
    };
  } catch (error) {
    await postgres.close();
    throw error;
  }
}

async function createTemplate(): Promise<void> {
  await runAsAdmin(`CREATE DATABASE ${TEMPLATE}`);
  const template = openDatabase(databaseSettings(TEMPLATE), () => {});
  await sql`CREATE EXTENSION pg_stat_statements`.execute(template);
  await migrateUp(template, MIGRATIONS);
  const parts = Number(process.env.TEST_PARTITIONS ?? 0);
  if (parts > 0) await partitionByUser(template, parts);
  await template.destroy();
}

async function startPooler(folder: string): Promise<PgBouncer> {
  await setRoleTimeouts(TIMEOUTS, '', runAsAdmin);
  const socketFolder = new URL(databaseSettings('postgres').connectionString.replace('///', '//host/'));
  return PgBouncer.start(`${folder}/pgbouncer`, socketFolder.searchParams.get('host') ?? '');
}
