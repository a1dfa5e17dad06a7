import { sql } from 'kysely';
import type { Logger } from 'pino';
import { run } from './connection';
import { awaitMigration, type MigrateOptions, migrateUp, type SchemaState, schemaState } from './migrate';
import type { OpenPostgres } from './open';
import type { Database, Timeouts } from './pool';
import { isTransactionPooler, UNDECLARED_POOLER } from './pooler';
import { type CountReplica, replicaTimeouts } from './replica';
import { readTimeouts, type Timeout } from './timeouts';
import { UnusableDatabaseError } from './unusable-database-error';

/** The oldest supported PostgreSQL, as server_version_num: 16. */
const MIN_SERVER_VERSION = 160_000;

/** The requirements of the service on its connections, and the folder of its migrations. */
export interface Requirements extends Timeouts {
  readonly migrationsDir: string;
  readonly pooler: 'none' | 'transaction';
}

/**
 * Checks, before the service accepts calls, everything on which the promises depend: the version,
 * the durability settings, the isolation level, the timeouts, and the schema. Migrates an empty
 * database, and the embedded one also from an older schema. Waits while another process migrates.
 * @param stop interrupts the wait for a migration of another process, with its reason
 * @throws UnusableDatabaseError
 */
export async function prepareDatabase(
  postgres: OpenPostgres,
  required: Requirements,
  log: Logger,
  stop?: AbortSignal,
): Promise<void> {
  const { db, replica, isEmbedded } = postgres;
  const { migrationsDir, pooler } = required;
  await checkSettings(db);
  // Named statements would meet in connections that are not the service's own.
  if (pooler === 'none' && !isEmbedded && (await postgres.withLongTimeouts(isTransactionPooler))) {
    throw new UnusableDatabaseError(
      'DATABASE_URL leads to a pooler in transaction mode. Set AQM_POOLER=transaction, and run "aqm migrate timeouts" once.',
    );
  }
  await checkTimeouts(db, required, pooler);
  if (pooler === 'none' && replica) await checkReplicaTimeouts(replica, replicaTimeouts(required));
  const before = await schemaState(db, migrationsDir);
  if (before.state === 'empty' || before.state === 'older') {
    const isOurs = before.state === 'empty' || isEmbedded;
    const options = { ...logged(log), stop };
    await postgres.withLongTimeouts(async (long) => {
      await (isOurs ? migrateUp(long, migrationsDir, options) : awaitMigration(long, options));
    });
  }
  refuseOtherSchema(await schemaState(db, migrationsDir));
}

/** Logs the progress of a migration. */
function logged(log: Logger): MigrateOptions {
  return {
    onProgress: ({ migration, ...progress }) => {
      if (migration === undefined) log.warn(progress, 'waiting for another process that migrates the database');
      else log.warn({ migration, ...progress }, 'migrating the database');
    },
  };
}

/**
 * Checks the schema, for commands that need the tables and must not create them.
 * @throws UnusableDatabaseError
 */
export async function requireSchema(db: Database, migrationsDir: string): Promise<void> {
  refuseOtherSchema(await schemaState(db, migrationsDir));
}

function refuseOtherSchema(schema: SchemaState): void {
  if (schema.state === 'empty') {
    throw new UnusableDatabaseError('The database is empty. Run "aqm migrate", or start the service once.');
  }
  if (schema.state === 'newer') {
    throw new UnusableDatabaseError(
      `The database's schema is newer than this version of the service: it does not know ${schema.unknown.join(', ')}. Run the newer version, or undo with that version's "aqm migrate down".`,
    );
  }
  if (schema.state === 'older') {
    throw new UnusableDatabaseError(
      `The database's schema is older than this version of the service: ${schema.missing.join(', ')} did not run yet. Run "aqm migrate".`,
    );
  }
}

/** Refuses a PostgreSQL that is too old, before a migration would fail on it. @throws UnusableDatabaseError */
export async function requireServerVersion(db: Database): Promise<void> {
  const [found] = await run(
    db,
    sql<{ version: number; text: string }>`
SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS text`,
  );
  if (!found || found.version >= MIN_SERVER_VERSION) return;
  throw new UnusableDatabaseError(
    `The database is a PostgreSQL ${found.text}, which is too old: 16 or newer is needed. Nothing was changed.`,
  );
}

/** Returns the version of the database server, such as "18.4". */
export async function serverVersion(db: Database): Promise<string | undefined> {
  const [found] = await run(db, sql<{ version: string }>`SELECT current_setting('server_version') AS version`);
  return found?.version;
}

async function checkSettings(db: Database): Promise<void> {
  const [found] = await run(
    db,
    sql<{ version: number; version_text: string; synchronous_commit: string; fsync: string; isolation: string }>`
SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS version_text,
  current_setting('synchronous_commit') AS synchronous_commit,
  current_setting('fsync') AS fsync,
  current_setting('default_transaction_isolation') AS isolation`,
  );
  if (!found) return;
  const problems: string[] = [];
  if (found.version < MIN_SERVER_VERSION)
    problems.push(`PostgreSQL 16 or newer is needed; this is PostgreSQL ${found.version_text}`);
  // A fetch must be durable before it is answered. A lost one would hand out its coins a second
  // time.
  if (!['on', 'remote_apply'].includes(found.synchronous_commit)) {
    problems.push(
      `synchronous_commit is ${found.synchronous_commit}; it must be on or remote_apply (ALTER ROLE … SET synchronous_commit = on)`,
    );
  }
  if (found.fsync !== 'on') problems.push('fsync is off; it must be on');
  if (found.isolation !== 'read committed') {
    problems.push(
      `default_transaction_isolation is ${found.isolation}; it must be read committed (ALTER ROLE … SET default_transaction_isolation = 'read committed')`,
    );
  }
  if (problems.length > 0) throw new UnusableDatabaseError(`The database cannot be used: ${problems.join('; ')}.`);
}

/** Checks the timeouts that are in force on a connection, which a pooler may not have passed on. */
async function checkTimeouts(db: Database, wanted: Timeouts, pooler: 'none' | 'transaction'): Promise<void> {
  const wrong = wrongTimeouts(await readTimeouts(db, wanted));
  if (wrong === undefined) return;
  throw new UnusableDatabaseError(
    pooler === 'transaction'
      ? `The database cannot be used through the pooler, which passes no timeouts on: ${wrong}. Run "aqm migrate timeouts" with the settings of the service, and then RECONNECT in PgBouncer's console.`
      : `DATABASE_URL leads to a pooler that ignores the timeouts of the service (${wrong}): ${UNDECLARED_POOLER}.`,
  );
}

/** Checks the same of the replica. One that cannot be reached is not needed: the primary counts. */
async function checkReplicaTimeouts({ db }: CountReplica, wanted: Timeouts): Promise<void> {
  const found = await readTimeouts(db, wanted).catch(() => []);
  const wrong = wrongTimeouts(found);
  if (wrong === undefined) return;
  throw new UnusableDatabaseError(
    `AQM_READ_DATABASE_URL leads to a pooler that ignores the timeouts of the service (${wrong}): ${UNDECLARED_POOLER}.`,
  );
}

/** Says which timeouts are not in force; undefined if all are. */
function wrongTimeouts(timeouts: readonly Timeout[]): string | undefined {
  const wrong = timeouts.filter(({ foundMs, wantedMs }) => foundMs !== wantedMs);
  if (wrong.length === 0) return undefined;
  return wrong.map(({ name, foundMs, wantedMs }) => `${name} is ${foundMs} ms instead of ${wantedMs} ms`).join('; ');
}
