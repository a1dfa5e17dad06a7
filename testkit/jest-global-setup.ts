import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import pino from 'pino';
import { findBinaries } from '../services/coin/database/embedded-binaries';
import { EmbeddedPostgres } from '../services/coin/database/embedded-postgres';
import { migrateUp } from '../services/coin/database/migrate';
import { openDatabase } from '../services/coin/database/pool';
import { partitionByUser } from './partitions';
import { PgBouncer } from './pgbouncer';
import { postgresModule } from './postgres-versions';
import { asAdmin, databaseSettings, MIGRATIONS, setRoleTimeouts, TEMPLATE, TIMEOUTS } from './test-database';
import { IS_FULL_RUN } from './tier';

declare global {
  var aqmTestPostgres: { close(): Promise<void>; folder: string };
}

/**
 * Starts one PostgreSQL for a run of jest, with a migrated template from which every test clones its database. The environment
 * chooses what the suite runs on:
 * - AQM_POSTGRES_PACKAGE=postgres-16 is another release of PostgreSQL (build/postgres-versions).
 * - With TEST_POOLER=pgbouncer every service reaches its database through a PgBouncer.
 * - With TEST_REPLICAS=2 two services answer alternately (service.ts).
 * - With TEST_PARTITIONS=8 the tables are partitioned by user_id.
 */
export default async function startPostgres(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-test-'));
  const binariesPackage = postgresModule();
  // Services in other processes find it by this name.
  if (binariesPackage !== undefined) process.env.AQM_POSTGRES_PACKAGE = binariesPackage;
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
  let pgbouncer: PgBouncer | undefined;
  const close = async () => {
    await pgbouncer?.stop();
    await postgres.close();
  };
  globalThis.aqmTestPostgres = { close, folder };
  // The packages are ES modules, which jest's own module system does not load.
  process.env.TEST_BINARIES = JSON.stringify(await findBinaries(binariesPackage));
  if (IS_FULL_RUN) process.env.TEST_OLD_BINARIES = JSON.stringify(await findBinaries(postgresModule('postgres-15')));
  process.env.TEST_POSTGRES = postgres.connectionString('postgres');
  await asAdmin(`CREATE DATABASE ${TEMPLATE}`);
  const template = openDatabase(databaseSettings(TEMPLATE), () => {});
  await sql`CREATE EXTENSION pg_stat_statements`.execute(template);
  await migrateUp(template, MIGRATIONS);
  const parts = Number(process.env.TEST_PARTITIONS ?? 0);
  if (parts > 0) await partitionByUser(template, parts);
  await template.destroy();
  if (process.env.TEST_POOLER !== 'pgbouncer') return;
  await setRoleTimeouts(TIMEOUTS);
  const socketFolder = new URL(process.env.TEST_POSTGRES.replace('///', '//host/')).searchParams.get('host') ?? '';
  pgbouncer = await PgBouncer.start(join(folder, 'pgbouncer'), socketFolder);
  process.env.TEST_POOLER_URL = pgbouncer.url('postgres');
}
