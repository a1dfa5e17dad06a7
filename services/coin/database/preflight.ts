import { sql } from 'kysely';
import { run } from './connection';
import { migrateUp, type SchemaState, schemaState } from './migrate';
import type { Database, Timeouts } from './pool';
import { readTimeouts } from './timeouts';

/** The database cannot be used as it is. The message says what to do. */
export class UnusableDatabaseError extends Error {
  override readonly name = 'UnusableDatabaseError';
}

/** The oldest supported PostgreSQL, as server_version_num: 16. */
const MIN_SERVER_VERSION = 160_000;

/**
 * Checks, before the service accepts calls, everything on which the promises depend: the version,
 * the durability settings, the isolation level, the schema, and the `timeouts` where connections
 * cannot set them. Migrates an empty database, and with `migrateOlder` also an older schema.
 * @throws UnusableDatabaseError
 */
export async function prepareDatabase(
  db: Database,
  migrationsDir: string,
  options: { readonly migrateOlder: boolean; readonly timeouts?: Timeouts },
): Promise<void> {
  await checkSettings(db);
  if (options.timeouts) await checkTimeouts(db, options.timeouts);
  const before = await schemaState(db, migrationsDir);
  if (before.state === 'empty' || (before.state === 'older' && options.migrateOlder)) {
    await migrateUp(db, migrationsDir);
  }
  refuseOtherSchema(await schemaState(db, migrationsDir));
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

async function checkSettings(db: Database): Promise<void> {
  const [found] = await run(
    db,
    sql<{ version: number; synchronous_commit: string; fsync: string; isolation: string }>`
SELECT current_setting('server_version_num')::int AS version,
  current_setting('synchronous_commit') AS synchronous_commit,
  current_setting('fsync') AS fsync,
  current_setting('default_transaction_isolation') AS isolation`,
  );
  if (!found) return;
  const problems: string[] = [];
  if (found.version < MIN_SERVER_VERSION) problems.push(`PostgreSQL 16 or newer is needed; this is ${found.version}`);
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

async function checkTimeouts(db: Database, wanted: Timeouts): Promise<void> {
  const wrong = (await readTimeouts(db, wanted)).filter(({ foundMs, wantedMs }) => foundMs !== wantedMs);
  if (wrong.length === 0) return;
  const list = wrong.map(({ name, foundMs, wantedMs }) => `${name} is ${foundMs} ms instead of ${wantedMs} ms`);
  throw new UnusableDatabaseError(
    `The database cannot be used through the pooler, which passes no timeouts on: ${list.join('; ')}. Run "aqm migrate timeouts" with the settings of the service, and then RECONNECT in PgBouncer's console.`,
  );
}
