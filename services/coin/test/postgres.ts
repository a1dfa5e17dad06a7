import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { sql } from 'kysely';
import { type Database, type DatabaseSettings, openDatabase } from '../store/database';

export const TEMPLATE = 'aqm_template';
export const MIGRATIONS = join(__dirname.replace(/[\\/]dist(?=[\\/]services)/, ''), '../../../migrations');

/** A URL of one database of the PostgreSQL that start-postgres.ts runs. */
export function databaseUrl(database: string): string {
  return (process.env.AQM_TEST_POSTGRES ?? '').replace('///postgres?', `///${database}?`);
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

export interface TestDatabase {
  readonly db: Database;
  readonly url: string;
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
  const db = openDatabase({ ...databaseSettings(name), ...settings }, () => {});
  return {
    db,
    url: databaseUrl(name),
    drop: async () => {
      await db.destroy();
      await asAdmin(`DROP DATABASE ${name} WITH (FORCE)`);
    },
  };
}

/** The database of another test service, which drops it. */
export function connectDatabase(url: string): TestDatabase {
  const db = openDatabase({ ...databaseSettings(''), connectionString: url }, () => {});
  return { db, url, drop: () => db.destroy() };
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
