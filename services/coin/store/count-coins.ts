import { sql } from 'kysely';
import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import { HAND_OUT_MARGIN_S, type UserDevice } from '../coin';
import { compileOnce, type ValueOf } from '../database/compile-once';
import { run } from '../database/connection';
import type { Database } from '../database/pool';
import type { Deadline } from '../deadline';
import { isVerified } from '../fence/guard';

export interface StockCount {
  /**
   * The number of coins that could be fetched now, by category. A category without any may be
   * missing.
   */
  readonly available: ReadonlyMap<CoinCategory, number>;
  /** The UUID of the database's epoch. */
  readonly epoch: string;
  /** The time by the database's clock. */
  readonly serverTime: Date;
  /**
   * True if the database is the one that was verified. If not, no coin is counted, because none may
   * be handed out.
   */
  readonly verified: boolean;
}

/**
 * Counts the coins of one device in the database.
 * @param incarnation the incarnation that was verified (guard.ts); an empty one matches no database
 */
export async function countCoins(
  db: Database,
  owner: UserDevice,
  incarnation: string,
  deadline: Deadline,
): Promise<StockCount> {
  const rows = await run(db, count({ ...owner, incarnation }), deadline);
  const [first] = rows;
  if (!first) throw new Error('The database has no epoch. Run the migrations.');
  return {
    available: toAvailable(rows),
    epoch: first.epoch,
    serverTime: first.server_time,
    verified: first.verified,
  };
}

const count = compileOnce((db, value: ValueOf<UserDevice & { incarnation: string }>) =>
  db
    .with(
      (cte) => cte('guard').materialized(),
      (query) => query.selectNoFrom(isVerified(value('incarnation')).as('verified')),
    )
    .selectFrom('database_life as life')
    .crossJoin('guard')
    .leftJoin(
      availableByCategory(db, { userId: value('userId'), deviceId: value('deviceId') })
        .where(sql<boolean>`(SELECT verified FROM guard)`)
        .as('stock'),
      (join) => join.onTrue(),
    )
    .select(['life.epoch', 'guard.verified', 'stock.coin_category', 'stock.available'])
    .select(sql<Date>`now()`.as('server_time')),
);

/**
 * Builds the query that counts the coins of one device that could be handed out now, one row for
 * each category.
 */
export function availableByCategory(db: Database, { userId, deviceId }: UserDevice) {
  return db
    .selectFrom('coin_stock')
    .select(({ cast, fn }) => ['coin_category', cast<number>(fn.countAll(), 'integer').as('available')])
    .where('user_id', '=', userId)
    .where('device_id', '=', deviceId)
    .where('expire_time', '>', sql<Date>`now() + make_interval(secs => ${HAND_OUT_MARGIN_S})`)
    .groupBy('coin_category');
}

/**
 * Collects the counts of the rows of a left join. A user without coins has one row without a
 * category.
 */
export function toAvailable(
  rows: readonly { readonly coin_category: CoinCategory | null; readonly available: number | null }[],
): Map<CoinCategory, number> {
  const available = new Map<CoinCategory, number>();
  for (const row of rows) if (row.coin_category !== null) available.set(row.coin_category, row.available ?? 0);
  return available;
}
