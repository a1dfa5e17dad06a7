import { join } from 'node:path';
import type { Logger } from 'pino';
import { EmbeddedPostgres } from './embedded-postgres';
import { type Database, type DatabaseSettings, openDatabase, type PoolCounts } from './pool';
import { QueueDelayEstimate } from './queue-delay-estimate';
import { type CountReplica, openReplica } from './replica';

/** The settings by which the service reaches PostgreSQL. */
export interface PostgresOptions extends Omit<DatabaseSettings, 'connectionString'> {
  /** The URL of the database; undefined: an embedded PostgreSQL runs in `dataDir`. */
  readonly databaseUrl: string | undefined;
  /** The URL of a replica that counts coins; undefined: the database counts them itself. */
  readonly readDatabaseUrl: string | undefined;
  readonly dataDir: string;
  /**
   * The npm package of the embedded PostgreSQL's programs; undefined: the default for this
   * platform.
   */
  readonly postgresPackage: string | undefined;
}

/** The open database, and everything that must be closed with it. */
export interface OpenPostgres {
  readonly db: Database;
  /** The replica that counts coins; undefined: `db` counts them. */
  readonly replica: CountReplica | undefined;
  readonly isEmbedded: boolean;
  readonly connectionString: string;
  /** Estimates how long a statement waits for a connection. */
  readonly waiting: QueueDelayEstimate;
  readonly pool: PoolCounts;
  /**
   * Runs `work` on a pool of two connections of its own, whose statements may take a week, for
   * migrations.
   */
  withLongTimeouts<T>(work: (db: Database) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/**
 * No bound for a statement that an operator waits for, in milliseconds: a week. Node's timers end
 * at 24 days.
 */
export const LONG_STATEMENT_TIMEOUT_MS = 604_800_000;

/**
 * Connects to `databaseUrl`, or to the embedded PostgreSQL, which is started if it does not run.
 * @param stop interrupts the start of the embedded PostgreSQL, with its reason
 */
export async function openPostgres(options: PostgresOptions, log: Logger, stop?: AbortSignal): Promise<OpenPostgres> {
  const { databaseUrl, readDatabaseUrl, dataDir, postgresPackage } = options;
  const embedded =
    databaseUrl === undefined
      ? await EmbeddedPostgres.open(join(dataDir, 'postgres'), { log, stop, binariesPackage: postgresPackage })
      : undefined;
  const connectionString = withoutTlsOnSocket(databaseUrl ?? embedded?.connectionString() ?? '');
  const waiting = new QueueDelayEstimate();
  let pool: PoolCounts = { totalCount: 0, idleCount: 0 };
  const db = openDatabase(
    { ...options, connectionString },
    (error, wasOpen) =>
      log.warn({ err: error }, wasOpen ? 'lost a database connection' : 'cannot connect to the database'),
    waiting,
    (opened) => {
      pool = opened;
    },
  );
  const replica =
    readDatabaseUrl === undefined
      ? undefined
      : openReplica({ ...options, connectionString: withoutTlsOnSocket(readDatabaseUrl) }, log);
  return {
    db,
    replica,
    isEmbedded: embedded !== undefined,
    connectionString,
    waiting,
    pool,
    withLongTimeouts: async (work) => {
      const long = openDatabase(
        { ...options, connectionString, poolSize: 2, statementTimeoutMs: LONG_STATEMENT_TIMEOUT_MS },
        () => {},
      );
      try {
        return await work(long);
      } finally {
        await long.destroy();
      }
    },
    close: async () => {
      await db.destroy();
      await replica?.db.destroy();
      await embedded?.close();
    },
  };
}

/**
 * Returns the URL without TLS if it leads to a Unix socket, whatever it or PGSSLMODE says. libpq
 * does the same; the driver would fail.
 */
function withoutTlsOnSocket(url: string): string {
  const [base = '', query = ''] = url.split('?');
  const parameters = new URLSearchParams(query);
  const isSocket = (parameters.get('host') ?? '').startsWith('/') || /^[a-z]+:\/\/([^/]*@)?%2f/i.test(base);
  if (!isSocket) return url;
  for (const name of ['ssl', 'sslnegotiation']) parameters.delete(name);
  parameters.set('sslmode', 'disable');
  return `${base}?${parameters}`;
}
