import { type RawBuilder, sql } from 'kysely';
import { HAND_OUT_MARGIN_S } from '../../coin';
import { run } from '../../database/connection';
import type { Database } from '../../database/pool';
import type { Deadline } from '../../deadline';
import { type Guard, isVerified, UNVERIFIED } from '../../fence/guard';

/** The number of rows of the stock that one statement reads. */
const SLICE = 2000;

interface Slice {
  verified: boolean;
  deleted: number;
  user_id: string | null;
  device_id: string | null;
  coin_category: number | null;
  upload_order: string | null;
}

/**
 * Deletes unfetched coins that were uploaded more than `maxAgeDays` ago or that are too close to
 * their expiry to be handed out. Walks the stock along its primary key in small statements, so it
 * needs no index of its own, and skips coins that a claim holds. Several servers may run it at the
 * same time. It requires a verified database: in a restored one, coins that seem unfetched may have
 * been handed out, and a purged coin may be uploaded again.
 * @returns the number of coins that were deleted
 * @throws FencedError; DeadlineExceededError or CancelledError between two statements, where
 *   earlier deletions persist
 */
export async function purgeStale(db: Database, guard: Guard, maxAgeDays: number, deadline: Deadline): Promise<number> {
  let deleted = 0;
  let after: RawBuilder<unknown> = sql`true`;
  for (;;) {
    const from = after;
    const slice = await guard.run(async ({ incarnation }) => {
      const [purged] = await run(db, purgeSlice(from, maxAgeDays, incarnation), deadline);
      return purged?.verified === false ? UNVERIFIED : purged;
    });
    if (!slice?.user_id) return deleted;
    deleted += slice.deleted;
    const { user_id, device_id, coin_category, upload_order } = slice;
    after = sql`(user_id, device_id, coin_category, upload_order)
      > (${user_id}::uuid, ${device_id}::uuid, ${coin_category}::smallint, ${upload_order}::bigint)`;
  }
}

function purgeSlice(after: RawBuilder<unknown>, maxAgeDays: number, incarnation: string) {
  return sql<Slice>`
WITH guard AS MATERIALIZED (
  SELECT ${isVerified(incarnation)} AS verified
),
slice AS MATERIALIZED (
  SELECT user_id, device_id, coin_category, upload_order, upload_time, expire_time
  FROM coin_stock
  WHERE (SELECT verified FROM guard) AND ${after}
  ORDER BY user_id, device_id, coin_category, upload_order
  LIMIT ${SLICE}
),
stale AS MATERIALIZED (
  SELECT s.user_id, s.device_id, s.coin_category, s.upload_order
  FROM coin_stock s
  JOIN slice USING (user_id, device_id, coin_category, upload_order)
  WHERE slice.upload_time < now() - make_interval(days => ${maxAgeDays})
    OR slice.expire_time <= now() + make_interval(secs => ${HAND_OUT_MARGIN_S})
  ORDER BY s.user_id, s.device_id, s.coin_category, s.upload_order
  FOR UPDATE OF s SKIP LOCKED
),
purged AS (
  DELETE FROM coin_stock s
  USING stale t
  WHERE s.user_id = t.user_id AND s.device_id = t.device_id AND s.coin_category = t.coin_category
    AND s.upload_order = t.upload_order
  RETURNING s.user_id, s.key_id
),
erased AS (
  DELETE FROM coin c USING purged p WHERE c.user_id = p.user_id AND c.key_id = p.key_id RETURNING c.key_id
)
SELECT guard.verified, (SELECT count(*) FROM erased)::int AS deleted, last.*
FROM guard
LEFT JOIN (
  SELECT user_id, device_id, coin_category, upload_order FROM slice
  ORDER BY user_id DESC, device_id DESC, coin_category DESC, upload_order DESC LIMIT 1
) last ON true`;
}
