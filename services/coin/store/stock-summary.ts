import { sql } from 'kysely';
import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import { HAND_OUT_MARGIN_S } from '../coin';
import { run } from '../database/connection';
import type { Database } from '../database/pool';
import { graceOfAll } from './fetch-grace';

/**
 * The numbers of one user's coins of one category. Each coin is in exactly one of the first four.
 */
export interface StockSummary {
  readonly coinCategory: CoinCategory;
  /** The coins that could be handed out now. */
  readonly inStock: number;
  /** The coins in stock that are too close to their `expire_time` to be handed out. */
  readonly pastHandingOut: number;
  /**
   * The coins that were handed out within the fetch grace, so that a repeated request gets them
   * again.
   */
  readonly fetched: number;
  /**
   * The coins that were handed out earlier, or retired. Only their ids are kept, or will be soon.
   */
  readonly spent: number;
  /**
   * The upload time of the oldest coin in stock, including those that are too old to be handed out;
   * null: there is none.
   */
  readonly oldestUpload: Date | null;
}

/** Counts one user's coins, for an operator. Reads no key bytes. An unknown user has no coins. */
export async function summarizeStock(
  db: Database,
  userId: string,
  options: { readonly categories: readonly CoinCategory[]; readonly graceSeconds: number },
): Promise<StockSummary[]> {
  const rows = await run(
    db,
    sql<{
      coin_category: CoinCategory;
      in_stock: number;
      past_handing_out: number;
      fetched: number;
      spent: number;
      oldest_upload: Date | null;
    }>`
WITH stock AS MATERIALIZED (
  SELECT coin_category, key_id, upload_time,
    expire_time > now() + make_interval(secs => ${HAND_OUT_MARGIN_S}) AS is_available
  FROM coin_stock
  WHERE user_id = ${userId}::uuid
),
fetched AS MATERIALIZED (
  SELECT unnest(key_ids) AS key_id
  FROM coin_fetch
  WHERE user_id = ${userId}::uuid AND fetch_time > now() - make_interval(secs => ${graceOfAll(options.graceSeconds)})
),
gone AS MATERIALIZED (
  SELECT c.coin_category, EXISTS (SELECT FROM fetched f WHERE f.key_id = c.key_id) AS is_fetched
  FROM coin c
  WHERE c.user_id = ${userId}::uuid AND NOT EXISTS (SELECT FROM stock s WHERE s.key_id = c.key_id)
)
SELECT category AS coin_category,
  (SELECT count(*)::int FROM stock WHERE coin_category = category AND is_available) AS in_stock,
  (SELECT count(*)::int FROM stock WHERE coin_category = category AND NOT is_available) AS past_handing_out,
  (SELECT count(*)::int FROM gone WHERE coin_category = category AND is_fetched) AS fetched,
  (SELECT count(*)::int FROM gone WHERE coin_category = category AND NOT is_fetched) AS spent,
  (SELECT min(upload_time) FROM stock WHERE coin_category = category) AS oldest_upload
FROM unnest(${options.categories}::smallint[]) AS category`,
  );
  const found = new Map(rows.map((row) => [row.coin_category, row]));
  return options.categories.map((coinCategory) => {
    const row = found.get(coinCategory);
    return {
      coinCategory,
      inStock: row?.in_stock ?? 0,
      pastHandingOut: row?.past_handing_out ?? 0,
      fetched: row?.fetched ?? 0,
      spent: row?.spent ?? 0,
      oldestUpload: row?.oldest_upload ?? null,
    };
  });
}
