import { sql } from 'kysely';
import { DELIVERY_WINDOW_S } from '../../coin';
import { type Database, run } from '../../database/pool';

const SLICE = 2000;

/**
 * Forgets spent ids whose private half no vault can hold any more: hard-deleted, and past `expire_time` by more than
 * the delivery window. Small statements along an index of its own; safe on several servers at once.
 * @returns how many ids were forgotten
 */
export async function forgetSpent(db: Database): Promise<number> {
  let forgotten = 0;
  for (;;) {
    const [slice] = await run(
      db,
      sql<{ forgotten: number }>`
WITH due AS MATERIALIZED (
  SELECT user_id, key_id
  FROM coin
  WHERE public_key IS NULL AND expire_time < now() - make_interval(secs => ${DELIVERY_WINDOW_S})
  ORDER BY expire_time
  LIMIT ${SLICE}
  FOR UPDATE SKIP LOCKED
),
gone AS (
  DELETE FROM coin c USING due d WHERE c.user_id = d.user_id AND c.key_id = d.key_id RETURNING c.key_id
)
SELECT count(*)::int AS forgotten FROM gone`,
    );
    forgotten += slice?.forgotten ?? 0;
    if ((slice?.forgotten ?? 0) < SLICE) return forgotten;
  }
}
