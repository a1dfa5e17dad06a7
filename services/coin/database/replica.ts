import type { Logger } from 'pino';
import { type Database, type DatabaseSettings, openDatabase } from './pool';

/** A streaming replica of the database, on which coins are counted. */
export interface CountReplica {
  readonly db: Database;
  /** The largest lag at which the replica is still used, in milliseconds. */
  readonly maxLagMs: number;
}

/**
 * The time after which the primary counts instead, in milliseconds: to connect, and for the
 * statement.
 */
const REPLICA_TIMEOUT_MS = 500;
const MAX_REPLICA_LAG_MS = 10_000;

/**
 * Opens the pool of connections to the replica, with short timeouts, because the primary can always
 * count instead.
 */
export function openReplica(settings: DatabaseSettings, log: Logger): CountReplica {
  const timeouts = { statementTimeoutMs: REPLICA_TIMEOUT_MS, connectTimeoutMs: REPLICA_TIMEOUT_MS };
  const onLost = (error: Error) =>
    log.warn({ err: error }, 'lost a connection to the replica; the primary counts coins meanwhile');
  return { db: openDatabase({ ...settings, ...timeouts }, onLost), maxLagMs: MAX_REPLICA_LAG_MS };
}
