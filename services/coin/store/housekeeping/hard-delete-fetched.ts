import { type RawBuilder, sql } from 'kysely';
import { run } from '../../database/connection';
import type { Database } from '../../database/pool';
import type { Deadline } from '../../deadline';

/** The number of requests per statement. Each has at most 20 coins. */
const SLICE = 200;

interface Slice {
  deleted: number;
  /** As text, because a Date has no microseconds, and the walk would not get past its last row. */
  fetch_time: string | null;
  user_id: string | null;
  requester_id: string | null;
  request_id: string | null;
}

/**
 * Hard-deletes the coins that were fetched longer ago than the grace, request by request: the
 * record of who fetched them, and their key bytes. The bare row in coin stays, so that the id
 * cannot be uploaded again. Finds what is due by an index, in small statements, oldest first, so its
 * cost does not depend on the number of fetches that are not due. A request of which another
 * transaction holds the record or a coin is left for the next run. Several servers may run it at the
 * same time.
 * @returns the number of coins that were removed
 * @throws DeadlineExceededError or CancelledError between two statements, where earlier removals
 *   persist
 */
export async function hardDeleteFetched(db: Database, graceSeconds: number, deadline: Deadline): Promise<number> {
  let deleted = 0;
  let after: RawBuilder<unknown> = sql`true`;
  for (;;) {
    const [slice] = await run(db, removeSlice(after, graceSeconds), deadline);
    if (!slice?.user_id) return deleted;
    deleted += slice.deleted;
    after = sql`(fetch_time, user_id, requester_id, request_id)
      > (${slice.fetch_time}::timestamptz, ${slice.user_id}::uuid, ${slice.requester_id}::uuid, ${slice.request_id}::uuid)`;
  }
}

function removeSlice(which: RawBuilder<unknown>, graceSeconds: number) {
  return sql<Slice>`
WITH slice AS MATERIALIZED (
  SELECT fetch_time, user_id, requester_id, request_id
  FROM coin_fetch
  WHERE fetch_time <= now() - make_interval(secs => ${graceSeconds}) AND ${which}
  ORDER BY fetch_time, user_id, requester_id, request_id
  LIMIT ${SLICE}
),
due AS MATERIALIZED (
  SELECT f.user_id, f.requester_id, f.request_id, f.key_ids
  FROM coin_fetch f
  JOIN slice s USING (user_id, requester_id, request_id)
  -- Checked again: after the grace the same id may have been used for another fetch.
  WHERE f.fetch_time = s.fetch_time
  ORDER BY f.user_id, f.requester_id, f.request_id
  FOR UPDATE OF f SKIP LOCKED
),
coins AS MATERIALIZED (
  SELECT user_id, requester_id, request_id, unnest(key_ids) AS key_id FROM due
),
free AS MATERIALIZED (
  SELECT o.user_id, o.key_id
  FROM coins o
  CROSS JOIN LATERAL (
    SELECT FROM coin c WHERE c.user_id = o.user_id AND c.key_id = o.key_id FOR UPDATE OF c SKIP LOCKED
  ) c
),
held AS MATERIALIZED (
  SELECT DISTINCT o.user_id, o.requester_id, o.request_id
  FROM coins o
  CROSS JOIN LATERAL (SELECT FROM coin c WHERE c.user_id = o.user_id AND c.key_id = o.key_id OFFSET 0) c
  WHERE NOT EXISTS (SELECT FROM free f WHERE f.user_id = o.user_id AND f.key_id = o.key_id)
),
forgotten AS (
  DELETE FROM coin_fetch f
  USING due d
  WHERE f.user_id = d.user_id AND f.requester_id = d.requester_id AND f.request_id = d.request_id
    AND (d.user_id, d.requester_id, d.request_id) NOT IN (SELECT user_id, requester_id, request_id FROM held)
  RETURNING f.user_id, f.key_ids
),
blanked AS (
  UPDATE coin c
  SET public_key = NULL, signature = NULL
  FROM (SELECT user_id, unnest(key_ids) AS key_id FROM forgotten) k
  WHERE c.user_id = k.user_id AND c.key_id = k.key_id
  RETURNING c.key_id
)
SELECT (SELECT count(*) FROM blanked)::int AS deleted, last.*
FROM (SELECT) one
LEFT JOIN (
  SELECT s.fetch_time::text, s.user_id, s.requester_id, s.request_id FROM slice s
  ORDER BY s.fetch_time DESC, s.user_id DESC, s.requester_id DESC, s.request_id DESC LIMIT 1
) last ON true`;
}
