import { type RawBuilder, sql } from 'kysely';
import { run } from '../../database/connection';
import type { Database } from '../../database/pool';

/** The largest number of coins that one statement reads. */
const SLICE = 2000;

interface Slice {
  cleared: number;
  user_id: string | null;
  key_id: string | null;
}

/**
 * Removes the key bytes of coins that an operator retired. Only their bare ids are left, which
 * forget-spent.ts removes when their time is over. Walks `coin` along its primary key in small
 * statements, and skips coins that are in stock or that the answer to a repeated request still
 * needs. Does nothing once a walk has been completed since the last retire. It may be started again
 * at any time, and by several servers at the same time.
 * @returns the number of coins whose bytes were removed
 */
export async function clearRetired(db: Database): Promise<number> {
  const due = await run(db, db.selectFrom('database_opening').select('opening').where('bytes_cleared', 'is', false));
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
    db
      .updateTable('database_opening')
      .set({ bytes_cleared: true })
      .where('opening', '=', sql<string>`ANY (${due.map((row) => row.opening)}::uuid[])`),
  );
  return cleared;
}

function clearSlice(after: RawBuilder<unknown>) {
  return sql<Slice>`
WITH slice AS MATERIALIZED (
  SELECT user_id, key_id, device_id, coin_category, upload_order, public_key IS NOT NULL AS has_bytes
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
  -- Checked again on the locked row, which another server may have cleared.
  WHERE s.has_bytes AND c.public_key IS NOT NULL
    AND NOT EXISTS (
      SELECT FROM coin_stock t
      WHERE t.user_id = s.user_id AND t.device_id = s.device_id AND t.coin_category = s.coin_category
        AND t.upload_order = s.upload_order
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
