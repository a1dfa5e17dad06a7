import { Kysely, PostgresAdapter, PostgresDialect } from 'kysely';
import { Pool, type PoolClient } from 'pg';
import { clientClass } from './client';
import { QueueDelayEstimate } from './queue-delay-estimate';
import type { DB } from './schema';
import { isTooManyConnections } from './sqlstate';

/**
 * A pool of connections with the types of the tables (schema.ts), or one transaction on a
 * connection of it.
 */
export type Database = Kysely<DB>;

/** The timeouts that PostgreSQL enforces, in milliseconds. */
export interface Timeouts {
  /** The longest duration of a statement. */
  readonly statementTimeoutMs: number;
  /** The longest wait for a lock. */
  readonly lockTimeoutMs: number;
  /**
   * The longest idle time in an open transaction, after which the connection is closed; undefined:
   * `statementTimeoutMs`.
   */
  readonly idleInTransactionTimeoutMs?: number;
}

export interface DatabaseSettings extends Timeouts {
  readonly connectionString: string;
  readonly poolSize: number;
  /** The longest wait for a connection, an idle or a new one, in milliseconds. */
  readonly connectTimeoutMs: number;
  /**
   * transaction: the pooler would not pass the timeouts on, so they must be the role's own
   * (timeouts.ts).
   */
  readonly pooler?: 'none' | 'transaction';
  /** False for a pooler without protocol-level prepared statements (PgBouncer before 1.21). */
  readonly preparedStatements: boolean;
}

/** The current numbers of connections of a pool. */
export interface PoolCounts {
  readonly totalCount: number;
  readonly idleCount: number;
}

/** The idle time after which TCP asks whether the peer is still there, in milliseconds. */
const KEEPALIVE_DELAY_MS = 60_000;

/**
 * Opens a pool of connections. A lost connection is replaced when it is needed again, with growing
 * pauses while that fails. If the server grants fewer connections than `poolSize`, callers wait for
 * those that there are.
 * @param onLost receives the error of each lost connection, and of the first one that could not be opened
 * @param waiting measures the waits while all connections are busy
 * @param onPool receives the counts of the pool
 */
export function openDatabase(
  settings: DatabaseSettings,
  onLost: (error: Error, wasOpen: boolean) => void,
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
    // A migration may say nothing for an hour, and a NAT forgets connections after minutes.
    keepAliveInitialDelayMillis: KEEPALIVE_DELAY_MS,
    // A server that does not respond at all (stopped, unreachable) does not enforce its own
    // timeouts.
    Client: clientClass({
      answerTimeoutMs: settings.statementTimeoutMs + 1000,
      named: settings.preparedStatements,
      onConnectFailure: (error) => onLost(error, false),
      onTooMany: () => size.shrink(),
    }),
  });
  const size = new GrantedSize(pool, settings.poolSize);
  onPool(pool);
  // A broken connection emits an error: an idle one on the pool, a busy one on itself (and its
  // query fails). Without listeners, either would end the process.
  const lost = (error: Error) => onLost(error, true);
  pool.on('error', lost);
  pool.on('connect', (client) => {
    client.on('error', lost);
  });
  const connect = pool.connect.bind(pool) as () => Promise<PoolClient>;
  /** Waits for one of the connections that there are if the server refuses another one. */
  const connectOrWait = async (): Promise<PoolClient> => {
    for (;;) {
      try {
        return await (size.isReached ? waiting.until(connect()) : connect());
      } catch (error) {
        if (!isTooManyConnections(error) || pool.totalCount === 0) throw error;
      }
    }
  };
  const measured = () => (pool.idleCount > 0 ? connect() : connectOrWait());
  pool.connect = measured as typeof pool.connect;
  return new Kysely({ dialect: new Dialect({ pool }) });
}

/** The time after which a pool that the server kept from growing tries again, in milliseconds. */
const GROW_AGAIN_MS = 10_000;

/**
 * The number of connections that a pool may have: its own maximum, or as many as the server grants. pg-pool
 * lets callers wait only while it has its maximum, and otherwise fails them when a new connection is refused.
 */
class GrantedSize {
  readonly #pool: Pool;
  readonly #max: number;
  #growAt = 0;

  constructor(pool: Pool, max: number) {
    this.#pool = pool;
    this.#max = max;
  }

  /** True if the pool opens no further connection now. */
  get isReached(): boolean {
    const { options, totalCount } = this.#pool;
    if (options.max < this.#max && performance.now() >= this.#growAt) options.max = this.#max;
    return totalCount >= options.max;
  }

  /** Called while a connection is refused, which the pool still counts. Returns false if there are no others. */
  shrink(): boolean {
    const others = this.#pool.totalCount - 1;
    if (others < 1) return false;
    this.#pool.options.max = Math.min(this.#pool.options.max, others);
    this.#growAt = performance.now() + GROW_AGAIN_MS;
    return true;
  }
}

class Dialect extends PostgresDialect {
  override createAdapter(): PostgresAdapter {
    return new Adapter();
  }
}

/**
 * Leaves out Kysely's lock for migrations. It belongs to a session, which a pooler splits;
 * migrate.ts has its own.
 */
class Adapter extends PostgresAdapter {
  override async acquireMigrationLock(): Promise<void> {}
  override async releaseMigrationLock(): Promise<void> {}
}
