import { type RawBuilder, sql } from 'kysely';
import { type Database, run } from '../../database/pool';

const SLICE = 2000;

interface Slice {
  cleared: number;
  user_id: string | null;
  key_id: string | null;
}

/**
 * Removes the key bytes of coins that an operator retired, so that only the bare ids are left, which forget-spent finds
 * in their time. Walks coin along its primary key in small statements; what is in stock, and what an answer to a
 * repeat still needs, is stepped over. Does nothing once it came to the end after the last retire; may be begun again
 * at any time, and by several at once.
 * @returns of how many coins
 */
export async function clearRetired(db: Database): Promise<number> {
  const due = await run(db, sql<{ opening: string }>`SELECT opening FROM database_opening WHERE NOT bytes_cleared`);
  if (due.length === 0) return 0;
  let cleared = 0;
  let after: RawBuilder<unknown> = sql`true`;
  for (;;) {
    const [slice] = await run(db, clearSlice(after));
    if (!slice?.user_id) break;
    cleared += slice.cleared;
    after = sql`(user_id, key_id) > (${slice.user_id}::uuid, ${slice.key_id}::uuid)`;
  }
  await run(
    db,
    sql`
UPDATE database_opening SET bytes_cleared = true WHERE opening = ANY (${due.map((row) => row.opening)}::uuid[])`,
  );
  return cleared;
}

function clearSlice(after: RawBuilder<unknown>) {
  return sql<Slice>`
WITH slice AS MATERIALIZED (
  SELECT user_id, key_id, coin_category, upload_order, public_key IS NOT NULL AS has_bytes
  FROM coin
  WHERE ${after}
  ORDER BY user_id, key_id
  LIMIT ${SLICE}
),
owed AS MATERIALIZED (
  SELECT u.user_id, unnest(f.key_ids) AS key_id
  FROM (SELECT DISTINCT user_id FROM slice WHERE has_bytes) u
  CROSS JOIN LATERAL (SELECT key_ids FROM coin_fetch f WHERE f.user_id = u.user_id OFFSET 0) f
),
retired AS MATERIALIZED (
  SELECT c.user_id, c.key_id
  FROM slice s
  JOIN coin c USING (user_id, key_id)
  -- Of the row as it is once it is locked: another one may have cleared it.
  WHERE s.has_bytes AND c.public_key IS NOT NULL
    AND NOT EXISTS (
      SELECT FROM coin_stock t
      WHERE t.user_id = s.user_id AND t.coin_category = s.coin_category AND t.upload_order = s.upload_order
    )
    AND NOT EXISTS (SELECT FROM owed o WHERE o.user_id = s.user_id AND o.key_id = s.key_id)
  ORDER BY c.user_id, c.key_id
  FOR UPDATE OF c
),
cleared AS (
  UPDATE coin c
  SET public_key = NULL, signature = NULL
  FROM retired r
  WHERE c.user_id = r.user_id AND c.key_id = r.key_id
  RETURNING c.key_id
)
SELECT (SELECT count(*) FROM cleared)::int AS cleared, last.*
FROM (SELECT) one
LEFT JOIN (
  SELECT user_id, key_id FROM slice ORDER BY user_id DESC, key_id DESC LIMIT 1
) last ON true`;
}
