import { type CompiledQuery, Kysely, PostgresAdapter, PostgresDialect } from 'kysely';
import { Pool, type PoolClient } from 'pg';
import { Deadline } from '../deadline';
import { type QueuedCall, StatementSpan } from '../telemetry/tracing';
import { FIELD_TYPES } from './binary-rows';
import { clientClass } from './client';
import type { DB } from './schema';
import { toStoreError } from './sqlstate';
import type { Timeouts } from './timeouts';
import { QueueDelayEstimate } from './wait-estimate';

/** A pool of connections with the types of the tables (schema.ts), or one transaction on a connection of it. */
export type Database = Kysely<DB>;

export interface DatabaseSettings extends Timeouts {
  readonly connectionString: string;
  readonly poolSize: number;
  /** How long to wait for a connection, a free one or a new one, in milliseconds. */
  readonly connectTimeoutMs: number;
  /** transaction: the timeouts are not sent, for they would not arrive; they must be the role's own (timeouts.ts). */
  readonly pooler?: 'none' | 'transaction';
  /** Off for a pooler that knows no protocol-level prepared statements (PgBouncer before 1.21). */
  readonly preparedStatements: boolean;
}

/** Connections of a pool now. */
export interface PoolCounts {
  readonly totalCount: number;
  readonly idleCount: number;
}

/**
 * A pool of connections. Lost ones are replaced when they are next needed, with growing pauses while that fails. `onLost`
 * hears why one was lost; `waiting` knows who waits because all are at work; `onPool` gets what counts them.
 */
export function openDatabase(
  settings: DatabaseSettings,
  onLost: (error: Error) => void,
  waiting = new QueueDelayEstimate(),
  onPool: (pool: PoolCounts) => void = () => {},
): Database {
  const timeouts = {
    statement_timeout: settings.statementTimeoutMs,
    lock_timeout: settings.lockTimeoutMs,
    idle_in_transaction_session_timeout: settings.idleInTransactionTimeoutMs ?? settings.statementTimeoutMs,
  };
  const pool = new Pool({
    connectionString: settings.connectionString,
    application_name: 'aqm-coin',
    max: settings.poolSize,
    connectionTimeoutMillis: settings.connectTimeoutMs,
    ...(settings.pooler !== 'transaction' && timeouts),
    keepAlive: true,
    types: FIELD_TYPES,
    // A server that does not answer at all (stopped, cut off) ends no statement by itself.
    Client: clientClass({ answerTimeoutMs: settings.statementTimeoutMs + 1000, named: settings.preparedStatements }),
  });
  onPool(pool);
  // A connection that breaks says so by an event, the idle one on the pool, the busy one on itself (beside failing
  // its query). Without listeners either would end the process.
  pool.on('error', onLost);
  pool.on('connect', (client) => {
    client.on('error', onLost);
  });
  const connect = pool.connect.bind(pool) as () => Promise<PoolClient>;
  const isBusy = () => pool.idleCount === 0 && pool.totalCount >= settings.poolSize;
  const inTurn = () => (isBusy() ? waiting.until(connect()) : connect());
  pool.connect = inTurn as typeof pool.connect;
  return new Kysely({ dialect: new Dialect({ pool }) });
}

class Dialect extends PostgresDialect {
  override createAdapter(): PostgresAdapter {
    return new Adapter();
  }
}

/** Kysely's lock for migrations belongs to a session, which a pooler does not keep together; migrate.ts has its own. */
class Adapter extends PostgresAdapter {
  override async acquireMigrationLock(): Promise<void> {}
  override async releaseMigrationLock(): Promise<void> {}
}

export interface Statement<Row> {
  compile(db: Database): CompiledQuery<Row>;
  /** The traced ones of the calls that it serves, where it is not the running call alone. Asked when it was compiled. */
  sharing?(): readonly QueuedCall[];
}

/**
 * Runs one statement in its own transaction, unless the caller gives up before it has a connection. It is compiled when it
 * has one: so a statement for several callers takes those who wait then.
 * @throws DeadlineExceededError, CancelledError, and what toStoreError makes of a failure
 */
export async function run<Row>(db: Database, query: Statement<Row>, deadline = Deadline.NONE): Promise<Row[]> {
  const since = performance.now();
  let span: StatementSpan | undefined;
  try {
    const { rows } = await deadline.whileWaiting((begin) =>
      db.getExecutor().provideConnection((connection) => {
        begin();
        const compiled = query.compile(db);
        span = StatementSpan.begin(compiled.sql, performance.now() - since, query.sharing);
        return connection.executeQuery<Row>(compiled);
      }),
    );
    span?.answered(rows.length);
    return rows;
  } catch (error) {
    span?.failed(error);
    throw toStoreError(error);
  }
}
