import { sql } from 'kysely';
import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import { HAND_OUT_MARGIN_S } from '../coin';
import { type Database, run } from '../database/pool';
import type { Deadline } from '../deadline';
import { isVerified } from '../fence/guard';

export interface StockCount {
  /** Coins that could be fetched now, by category; a category without any may be missing. */
  readonly available: ReadonlyMap<CoinCategory, number>;
  /** UUID of the present life of the database. */
  readonly epoch: string;
  /** The database's clock. */
  readonly serverTime: Date;
  /** Whether the stamp fitted. If not, no stock counts: none of it may be handed out. */
  readonly verified: boolean;
}

interface Row {
  epoch: string;
  server_time: Date;
  verified: boolean;
  coin_category: CoinCategory | null;
  available: number;
}

/** Counts one user's coins. `stamp`: see guard.ts; an empty one fits no database. */
export async function countCoins(
  db: Database,
  userId: string,
  incarnation: string,
  deadline: Deadline,
): Promise<StockCount> {
  const rows = await run(
    db,
    sql<Row>`
WITH gate AS MATERIALIZED (
  SELECT ${isVerified(incarnation)} AS verified
)
SELECT life.epoch, now() AS server_time, gate.verified, stock.coin_category, stock.available
FROM database_life life
CROSS JOIN gate
LEFT JOIN (
  SELECT coin_category, count(*)::int AS available
  FROM coin_stock
  WHERE (SELECT verified FROM gate) AND user_id = ${userId}::uuid AND expire_time > now() + make_interval(secs => ${HAND_OUT_MARGIN_S})
  GROUP BY coin_category
) stock ON true`,
    deadline,
  );
  const [first] = rows;
  if (!first) throw new Error('The database has no epoch; run the migrations.');
  const available = new Map<CoinCategory, number>();
  for (const row of rows) if (row.coin_category !== null) available.set(row.coin_category, row.available);
  return { available, epoch: first.epoch, serverTime: first.server_time, verified: first.verified };
}
