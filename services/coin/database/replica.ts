import type { Logger } from 'pino';
import { type Database, type DatabaseSettings, openDatabase, type Timeouts } from './pool';

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

/** Returns the timeouts that connections to the replica set, if those to the primary set `timeouts`. */
export function replicaTimeouts(timeouts: Timeouts): Timeouts {
  return { ...timeouts, statementTimeoutMs: REPLICA_TIMEOUT_MS };
}

/**
 * Opens the pool of connections to the replica, with short timeouts, because the primary can always
 * count instead.
 */
export function openReplica(settings: DatabaseSettings, log: Logger): CountReplica {
  const own = { ...settings, ...replicaTimeouts(settings), connectTimeoutMs: REPLICA_TIMEOUT_MS };
  const onLost = (error: Error) =>
    log.warn({ err: error }, 'lost a connection to the replica; the primary counts coins meanwhile');
  return { db: openDatabase(own, onLost), maxLagMs: MAX_REPLICA_LAG_MS };
}
