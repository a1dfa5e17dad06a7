import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Config } from '../config';
import type { CountReplica } from '../store/count-on-replica';
import { EmbeddedPostgres } from './embedded-postgres';
import { type Database, openDatabase, type PoolCounts } from './pool';
import { QueueDelayEstimate } from './wait-estimate';

/** The database that the configuration means, and what to close at the end. */
export interface OpenPostgres {
  readonly db: Database;
  /** Where coins are counted; undefined: in `db`. */
  readonly replica: CountReplica | undefined;
  readonly isEmbedded: boolean;
  readonly connectionString: string;
  /** Who waits for a connection. */
  readonly waiting: QueueDelayEstimate;
  readonly pool: PoolCounts;
  close(): Promise<void>;
}

/** The database counts itself where the replica is slower, in milliseconds. */
const REPLICA_TIMEOUT_MS = 500;
const MAX_REPLICA_LAG_MS = 10_000;

/** Connects to DATABASE_URL, or to the embedded PostgreSQL, which is started if need be. */
export async function openPostgres(config: Config, log: Logger): Promise<OpenPostgres> {
  const embedded =
    config.databaseUrl === undefined
      ? await EmbeddedPostgres.open(join(config.dataDir, 'postgres'), {
          log,
          binariesPackage: config.postgresPackage,
        })
      : undefined;
  const connectionString = config.databaseUrl ?? embedded?.connectionString() ?? '';
  const waiting = new QueueDelayEstimate();
  let pool: PoolCounts = { totalCount: 0, idleCount: 0 };
  const db = openDatabase(
    { ...config, connectionString },
    (error) => log.warn({ err: error }, 'a database connection was lost'),
    waiting,
    (opened) => {
      pool = opened;
    },
  );
  const replica = openReplica(config, log);
  return {
    db,
    replica,
    isEmbedded: embedded !== undefined,
    connectionString,
    waiting,
    pool,
    close: async () => {
      await db.destroy();
      await replica?.db.destroy();
      await embedded?.close();
    },
  };
}

function openReplica(config: Config, log: Logger): CountReplica | undefined {
  const { readDatabaseUrl: connectionString } = config;
  if (connectionString === undefined) return undefined;
  const timeouts = { statementTimeoutMs: REPLICA_TIMEOUT_MS, connectTimeoutMs: REPLICA_TIMEOUT_MS };
  const onLost = (error: Error) =>
    log.warn({ err: error }, 'a connection to the replica was lost; the database counts');
  return {
    db: openDatabase({ ...config, ...timeouts, connectionString }, onLost),
    maxLagMs: MAX_REPLICA_LAG_MS,
  };
}
