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
import { asAdmin, databaseSettings, MIGRATIONS, TEMPLATE } from './test-database';

declare global {
  var aqmTestPostgres: { close(): Promise<void>; folder: string };
}

/**
 * One PostgreSQL for a run of jest, with a migrated template from which every test clones its database. With
 * TEST_POOLER=pgbouncer every service that is given one of these databases talks to it through a PgBouncer; with
 * TEST_REPLICAS=2 two services answer in turn (service.ts). With TEST_PARTITIONS=8 the tables are partitioned by user_id.
 */
export default async function startPostgres(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-test-'));
  const postgres = await EmbeddedPostgres.open(folder, {
    log: pino({ level: 'error' }, pino.destination(2)),
    binariesPackage: process.env.AQM_POSTGRES_PACKAGE,
    settings: ['shared_preload_libraries=pg_stat_statements'],
  });
  let pgbouncer: PgBouncer | undefined;
  const close = async () => {
    await pgbouncer?.stop();
    await postgres.close();
  };
  globalThis.aqmTestPostgres = { close, folder };
  // The packages are ES modules, which jest's own module system does not load.
  process.env.TEST_BINARIES = JSON.stringify(await findBinaries(process.env.AQM_POSTGRES_PACKAGE));
  process.env.TEST_OLD_BINARIES = JSON.stringify(await findBinaries('postgres-15').catch(() => ({})));
  process.env.TEST_POSTGRES = postgres.connectionString('postgres');
  await asAdmin(`CREATE DATABASE ${TEMPLATE}`);
  const template = openDatabase(databaseSettings(TEMPLATE), () => {});
  await sql`CREATE EXTENSION pg_stat_statements`.execute(template);
  await migrateUp(template, MIGRATIONS);
  const parts = Number(process.env.TEST_PARTITIONS ?? 0);
  if (parts > 0) await partitionByUser(template, parts);
  await template.destroy();
  if (process.env.TEST_POOLER !== 'pgbouncer') return;
  const { statementTimeoutMs, lockTimeoutMs } = databaseSettings('postgres');
  await asAdmin(`ALTER ROLE postgres SET statement_timeout = ${statementTimeoutMs}`);
  await asAdmin(`ALTER ROLE postgres SET idle_in_transaction_session_timeout = ${statementTimeoutMs}`);
  await asAdmin(`ALTER ROLE postgres SET lock_timeout = ${lockTimeoutMs}`);
  const socketFolder = new URL(process.env.TEST_POSTGRES.replace('///', '//host/')).searchParams.get('host') ?? '';
  pgbouncer = await PgBouncer.start(join(folder, 'pgbouncer'), socketFolder);
  process.env.TEST_POOLER_URL = pgbouncer.url('postgres');
}
