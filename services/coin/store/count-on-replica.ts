import { sql } from 'kysely';
import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import { HAND_OUT_MARGIN_S } from '../coin';
import { type Database, run } from '../database/pool';
import type { Deadline } from '../deadline';
import { type FencingToken, isVerified } from '../fence/guard';
import { countCoins, type StockCount } from './count-coins';

/** A streaming replica of the database, for counts. */
export interface CountReplica {
  readonly db: Database;
  /** One that is further behind is not asked; in milliseconds. */
  readonly maxLagMs: number;
}

/**
 * What countCoins tells, with the stock counted by the replica. Epoch, time and stamp are the database's own: by the
 * time devices retire coins, and the epoch keeps a retry from crossing a restore. The stock is that of a moment at most
 * `maxLagMs` ago; where the replica is further behind, away, or not of this opening, the database counts.
 */
export async function countOnReplica(
  db: Database,
  replica: CountReplica,
  userId: string,
  { incarnation, opening }: FencingToken,
  deadline: Deadline,
): Promise<StockCount> {
  const [life, copy] = await Promise.all([
    readNow(db, incarnation, deadline),
    readCopy(replica.db, userId, opening, deadline).catch(() => undefined),
  ]);
  if (!life.verified) return { ...life, available: new Map() };
  if (!copy || !isRecent(copy, life, replica.maxLagMs)) return countCoins(db, userId, incarnation, deadline);
  return { ...life, available: copy.available };
}

/** It has everything, or its newest transaction is young. (An old one may mean that none came since.) */
function isRecent(copy: Copy, life: Now, maxLagMs: number): boolean {
  return copy.replayed >= life.written || copy.newest.getTime() > life.serverTime.getTime() - maxLagMs;
}

interface Now extends Omit<StockCount, 'available'> {
  /** Up to where the log is written; -1 by a standby, which is never verified. */
  readonly written: bigint;
}

async function readNow(db: Database, incarnation: string, deadline: Deadline): Promise<Now> {
  const [row] = await run(
    db,
    sql<{ epoch: string; server_time: Date; verified: boolean; written: string | null }>`
SELECT epoch, now() AS server_time, ${isVerified(incarnation)} AS verified,
  CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') END::text AS written
FROM database_life`,
    deadline,
  );
  if (!row) throw new Error('The database has no epoch; run the migrations.');
  return { epoch: row.epoch, serverTime: row.server_time, verified: row.verified, written: BigInt(row.written ?? -1) };
}

interface Copy {
  readonly available: ReadonlyMap<CoinCategory, number>;
  /** Up to where it has the log. */
  readonly replayed: bigint;
  /** When its newest transaction was committed, by the clock of the database. */
  readonly newest: Date;
}

interface CopyRow {
  same: boolean | null;
  replayed: string | null;
  newest: Date | null;
  coin_category: CoinCategory | null;
  available: number;
}

/** @returns undefined when it is no replica of this opening */
async function readCopy(db: Database, userId: string, opening: string, deadline: Deadline): Promise<Copy | undefined> {
  const rows = await run(
    db,
    sql<CopyRow>`
SELECT life.opening = ${opening}::uuid AS same, pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::text AS replayed,
  pg_last_xact_replay_timestamp() AS newest, stock.coin_category, stock.available
FROM database_life life
LEFT JOIN (
  SELECT coin_category, count(*)::int AS available
  FROM coin_stock
  WHERE user_id = ${userId}::uuid AND expire_time > now() + make_interval(secs => ${HAND_OUT_MARGIN_S})
  GROUP BY coin_category
) stock ON true`,
    deadline,
  );
  const [first] = rows;
  if (!first?.same || first.replayed === null) return undefined;
  const available = new Map<CoinCategory, number>();
  for (const row of rows) if (row.coin_category !== null) available.set(row.coin_category, row.available);
  return { available, replayed: BigInt(first.replayed), newest: first.newest ?? new Date(0) };
}
