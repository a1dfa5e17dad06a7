import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { sql } from 'kysely';
import { type Database, type DatabaseSettings, openDatabase } from '../services/coin/database/pool';
import { QueueDelayEstimate } from '../services/coin/database/queue-delay-estimate';
import { ROOT } from './root';

export const TEMPLATE = 'aqm_template';
export const MIGRATIONS = join(ROOT, 'migrations');

/** What jest-global-setup.ts runs, and hands to the processes of the tests: URLs of the database "postgres". */
const POSTGRES = () => process.env.TEST_POSTGRES ?? '';
const POOLER = () => process.env.TEST_POOLER_URL || undefined;

/** A URL of one database, past any pooler: for what tests look at and do themselves. */
export function databaseUrl(database: string): string {
  return POSTGRES().replace('///postgres?', `///${database}?`);
}

export function databaseSettings(database: string): DatabaseSettings {
  return {
    connectionString: databaseUrl(database),
    poolSize: 20,
    connectTimeoutMs: 1500,
    statementTimeoutMs: 5000,
    lockTimeoutMs: 1000,
    preparedStatements: true,
  };
}

/** The same database as services reach it: through the pooler, where the suite runs with one. */
export function serviceSettings(database: string): DatabaseSettings {
  const pooler = POOLER();
  const settings = databaseSettings(database);
  if (pooler === undefined) return settings;
  const connectionString = pooler.replace('///postgres?', `///${database}?`);
  return { ...settings, connectionString, pooler: 'transaction', preparedStatements: false };
}

export interface TestDatabase {
  readonly name: string;
  /** Past any pooler. */
  readonly db: Database;
  /** What a service of this process uses. */
  readonly serviceDb: Database;
  /** Who waits for a connection of it. */
  readonly waiting: QueueDelayEstimate;
  /** What a service or command of another process must be told. */
  readonly env: { readonly DATABASE_URL: string; readonly AQM_POOLER: string };
  drop(): Promise<void>;
}

/** A database of its own for one test: a clone of the migrated template, or an empty one. */
export async function createDatabase(
  from: 'migrated' | 'empty' = 'migrated',
  settings: Partial<DatabaseSettings> = {},
): Promise<TestDatabase> {
  const name = `test_${randomUUID().replaceAll('-', '')}`;
  const template = from === 'migrated' ? TEMPLATE : 'template0';
  await asAdmin(`CREATE DATABASE ${name} TEMPLATE ${template}`);
  return open(name, settings, () => asAdmin(`DROP DATABASE ${name} WITH (FORCE)`));
}

/** The database of another test service, which drops it. */
export function connectDatabase({ name }: TestDatabase): TestDatabase {
  return open(name, {}, async () => {});
}

function open(name: string, ours: Partial<DatabaseSettings>, drop: () => Promise<void>): TestDatabase {
  const settings = { ...serviceSettings(name), ...ours };
  const waiting = new QueueDelayEstimate();
  const db = openDatabase({ ...databaseSettings(name), ...ours }, () => {}, waiting);
  const serviceDb = settings.pooler ? openDatabase(settings, () => {}, waiting) : db;
  return {
    name,
    db,
    serviceDb,
    waiting,
    env: { DATABASE_URL: settings.connectionString, AQM_POOLER: settings.pooler ?? 'none' },
    drop: async () => {
      for (const one of new Set([serviceDb, db])) await one.destroy();
      await drop();
    },
  };
}

/** Runs a statement that cannot take parameters, such as CREATE DATABASE, as the owner of everything. */
export async function asAdmin(text: string): Promise<void> {
  const admin = openDatabase({ ...databaseSettings('postgres'), poolSize: 1, statementTimeoutMs: 60_000 }, () => {});
  try {
    await sql.raw(text).execute(admin);
  } finally {
    await admin.destroy();
  }
}
