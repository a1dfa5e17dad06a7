import { sql } from 'kysely';
import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import { HAND_OUT_MARGIN_S } from '../coin';
import { type Database, run } from './database';

export interface StockCount {
  /** Coins that could be fetched now, by category; a category without any may be missing. */
  readonly available: ReadonlyMap<CoinCategory, number>;
  /** UUID of the present life of the database. */
  readonly epoch: string;
  /** The database's clock. */
  readonly serverTime: Date;
}

/** Counts one user's coins. */
export async function countCoins(db: Database, userId: string): Promise<StockCount> {
  const rows = await run(
    db,
    sql<{ epoch: string; server_time: Date; coin_category: CoinCategory | null; available: number }>`
SELECT life.epoch, now() AS server_time, stock.coin_category, stock.available
FROM database_life life
LEFT JOIN (
  SELECT coin_category, count(*)::int AS available
  FROM coin_stock
  WHERE user_id = ${userId}::uuid AND expire_time > now() + make_interval(secs => ${HAND_OUT_MARGIN_S})
  GROUP BY coin_category
) stock ON true`,
  );
  const [first] = rows;
  if (!first) throw new Error('The database has no epoch; run the migrations.');
  const available = new Map<CoinCategory, number>();
  for (const row of rows) if (row.coin_category !== null) available.set(row.coin_category, row.available);
  return { available, epoch: first.epoch, serverTime: first.server_time };
}
