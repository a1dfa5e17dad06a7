import { sql } from 'kysely';
import { DELIVERY_WINDOW_S } from '../coin';
import { run } from '../database/connection';
import type { Database } from '../database/pool';
import { userHashOf } from '../database/user-hash';
import type { SpentCoin } from './guard';
import { DELETED_USER, REMOVED_DEVICE } from './ring-file';

/** The number of coins that one statement looks up. */
const SLICE = 10_000;

export interface WatermarkCount {
  /** The number of coins that the database must still remember as spent. */
  live: number;
  /** The number of those that it does not know to be spent. */
  missing: number;
}

/**
 * Looks up each coin in the database. A spent coin has a row in coin and none in coin_stock, or
 * belonged to a user whose deletion the database knows. The record of a deletion, or of the removal
 * of a device, is missing if the database does not know it. Coins that the database need not remember any more are not counted.
 */
export async function countMissing(db: Database, coins: readonly SpentCoin[]): Promise<WatermarkCount> {
  const total = { live: 0, missing: 0 };
  for (let from = 0; from < coins.length; from += SLICE) {
    const slice = coins.slice(from, from + SLICE);
    const [counted] = await run(
      db,
      sql<WatermarkCount>`
SELECT count(*)::int AS live,
  (count(*) FILTER (
    WHERE (
      CASE WHEN m.coin_category = ${REMOVED_DEVICE}::smallint THEN r.user_id IS NULL
        ELSE c.user_id IS NULL OR s.user_id IS NOT NULL END
    ) AND NOT EXISTS (
      SELECT FROM database_deletion d
      WHERE d.user_hash = CASE WHEN m.key_id = ${DELETED_USER}::uuid THEN m.user_id ELSE ${userHashOf(sql`m.user_id`)} END
    )
  ))::int AS missing
FROM unnest(
  ${slice.map((coin) => coin.userId)}::uuid[],
  ${slice.map((coin) => coin.keyId)}::uuid[],
  ${slice.map((coin) => coin.coinCategory)}::smallint[],
  ${slice.map((coin) => coin.expireTime)}::timestamptz[]
) AS m (user_id, key_id, coin_category, expire_time)
LEFT JOIN LATERAL (
  SELECT * FROM coin c WHERE c.user_id = m.user_id AND c.key_id = m.key_id OFFSET 0
) c ON true
LEFT JOIN LATERAL (
  SELECT s.user_id
  FROM coin_stock s
  WHERE s.user_id = c.user_id AND s.device_id = c.device_id AND s.coin_category = c.coin_category
    AND s.upload_order = c.upload_order
  OFFSET 0
) s ON true
LEFT JOIN LATERAL (
  SELECT d.user_id
  FROM coin_device d
  WHERE d.user_id = m.user_id AND d.device_id = m.key_id AND d.remove_time IS NOT NULL
    AND m.coin_category = ${REMOVED_DEVICE}::smallint
  OFFSET 0
) r ON true
WHERE m.expire_time > now() - make_interval(secs => ${DELIVERY_WINDOW_S})`,
    );
    total.live += counted?.live ?? 0;
    total.missing += counted?.missing ?? 0;
  }
  return total;
}
