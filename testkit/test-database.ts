import { randomUUID } from 'node:crypto';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { sql } from 'kysely';
import { readConfig } from '../services/coin/config';
import { type Database, type DatabaseSettings, openDatabase } from '../services/coin/database/pool';
import { QueueDelayEstimate } from '../services/coin/database/queue-delay-estimate';
import { ROOT } from './root';

export const TEMPLATE = 'aqm_template';
export const MIGRATIONS = join(ROOT, 'migrations');

/** The timeouts of a service's connections, in milliseconds. */
export type Timeouts = Pick<DatabaseSettings, 'connectTimeoutMs' | 'statementTimeoutMs' | 'lockTimeoutMs'>;

/**
 * Far beyond what any statement takes on a busy machine, so that a timeout never decides a test. A test about a timeout passes
 * its own.
 */
export const TIMEOUTS: Timeouts = { connectTimeoutMs: 30_000, statementTimeoutMs: 60_000, lockTimeoutMs: 30_000 };

/** Not a setting: a service requires this value of the role behind a pooler. */
const IDLE_IN_TRANSACTION_MS = readConfig({}).idleInTransactionTimeoutMs;

/** URLs of the database "postgres", which runs once `postgresOfRun` has resolved, as jest-global-setup.ts hands them to the processes of the tests. */
const POSTGRES = () => process.env.TEST_POSTGRES ?? '';
const POOLER = () => process.env.TEST_POOLER_URL || undefined;

/** Returns the URL of one database that bypasses any pooler, for what a test reads and writes itself. */
export function databaseUrl(database: string): string {
  return POSTGRES().replace('///postgres?', `///${database}?`);
}

export function databaseSettings(database: string): DatabaseSettings {
  return { connectionString: databaseUrl(database), poolSize: 20, preparedStatements: true, ...TIMEOUTS };
}

/** Returns how services reach the database: through the pooler, if the suite runs with one. */
export function serviceSettings(database: string): DatabaseSettings {
  const pooler = POOLER();
  const settings = databaseSettings(database);
  if (pooler === undefined) return settings;
  const connectionString = pooler.replace('///postgres?', `///${database}?`);
  return { ...settings, connectionString, pooler: 'transaction', preparedStatements: false };
}

export interface TestDatabase {
  readonly name: string;
  /** Bypasses any pooler. */
  readonly db: Database;
  /** The pool of a service in this process. */
  readonly serviceDb: Database;
  /** The queueing delay of that pool. */
  readonly waiting: QueueDelayEstimate;
  /** The environment of a service or command in another process. */
  readonly env: Readonly<Record<'DATABASE_URL' | 'AQM_POOLER', string>> & NodeJS.ProcessEnv;
  drop(): Promise<void>;
}

/** Creates a database for one test: a clone of the migrated template, or an empty one. */
export async function createDatabase(
  from: 'migrated' | 'empty' = 'migrated',
  settings: Partial<DatabaseSettings> = {},
): Promise<TestDatabase> {
  const name = `test_${randomUUID().replaceAll('-', '')}`;
  const template = from === 'migrated' ? TEMPLATE : 'template0';
  await asAdmin(`CREATE DATABASE ${name} TEMPLATE ${template}`);
  const timeouts = { ...TIMEOUTS, ...settings };
  const isUnusual = Object.entries(TIMEOUTS).some(([timeout, ms]) => timeouts[timeout as keyof Timeouts] !== ms);
  // Connections of a pooler take their timeouts from the role.
  if (POOLER() !== undefined && isUnusual) await setRoleTimeouts(timeouts, `IN DATABASE ${name}`);
  return open(name, settings, () => asAdmin(`DROP DATABASE ${name} WITH (FORCE)`));
}

/** Opens the database of another test service, which drops it. */
export function connectDatabase({ name }: TestDatabase): TestDatabase {
  return open(name, {}, async () => {});
}

function open(name: string, given: Partial<DatabaseSettings>, drop: () => Promise<void>): TestDatabase {
  const settings = { ...serviceSettings(name), ...given };
  const waiting = new QueueDelayEstimate();
  const db = openDatabase({ ...databaseSettings(name), ...given }, () => {}, waiting);
  const serviceDb = settings.pooler ? openDatabase(settings, () => {}, waiting) : db;
  return {
    name,
    db,
    serviceDb,
    waiting,
    env: {
      DATABASE_URL: settings.connectionString,
      AQM_POOLER: settings.pooler ?? 'none',
      AQM_CONNECT_TIMEOUT_MS: String(settings.connectTimeoutMs),
      AQM_STATEMENT_TIMEOUT_MS: String(settings.statementTimeoutMs),
      AQM_LOCK_TIMEOUT_MS: String(settings.lockTimeoutMs),
    },
    drop: async () => {
      for (const one of new Set([serviceDb, db])) await one.destroy();
      await drop();
    },
  };
}

/** Gives the role of the tests the timeouts that a service behind a pooler expects of its connections. */
export async function setRoleTimeouts(timeouts: Timeouts, where = '', run = asAdmin): Promise<void> {
  const set = (name: string, ms: number) => run(`ALTER ROLE postgres ${where} SET ${name} = ${ms}`);
  await set('statement_timeout', timeouts.statementTimeoutMs);
  await set('idle_in_transaction_session_timeout', IDLE_IN_TRANSACTION_MS);
  await set('lock_timeout', timeouts.lockTimeoutMs);
}

let started: Promise<void> | undefined;

/**
 * Resolves when the PostgreSQL of this run of jest runs; the first call in a run starts it (jest-global-setup.ts). A test that uses
 * a URL of `databaseUrl` and creates no database must await it.
 * @throws with the error of its start
 */
export function postgresOfRun(): Promise<void> {
  started ??= textOf(connect(process.env.TEST_POSTGRES_STARTER ?? '')).then((answer) => {
    if (answer !== 'ready') throw new Error(`The PostgreSQL of the tests does not start: ${answer}`);
  });
  return started;
}

/** Runs a statement that cannot take parameters, such as CREATE DATABASE, as the owner of everything. */
export async function asAdmin(text: string): Promise<void> {
  await postgresOfRun();
  await runAsAdmin(text);
}

/** Runs such a statement on a PostgreSQL that runs already. */
export async function runAsAdmin(text: string): Promise<void> {
  const admin = openDatabase({ ...databaseSettings('postgres'), poolSize: 1, statementTimeoutMs: 240_000 }, () => {});
  try {
    await sql.raw(text).execute(admin);
  } finally {
    await admin.destroy();
  }
}
