import { type RawBuilder, sql } from 'kysely';
import { run } from '../../database/connection';
import type { Database } from '../../database/pool';
import type { Deadline } from '../../deadline';
import { graceOfAll } from '../fetch-grace';

/** The number of requests per statement. Each has at most 20 coins. */
const SLICE = 200;

interface Slice {
  deleted: number;
  user_id: string | null;
  requester_id: string | null;
  request_id: string | null;
}

/**
 * Hard-deletes the coins that were fetched longer ago than the given grace and the fetch grace of
 * every service, request by request: the
 * record of who fetched them, and their key bytes. The bare row in coin stays, so that the id
 * cannot be uploaded again. Walks coin_fetch along its primary key in small statements. Several
 * servers may run it at the same time.
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
    after = sql`(user_id, requester_id, request_id)
      > (${slice.user_id}::uuid, ${slice.requester_id}::uuid, ${slice.request_id}::uuid)`;
  }
}

function removeSlice(which: RawBuilder<unknown>, graceSeconds: number) {
  return sql<Slice>`
WITH slice AS MATERIALIZED (
  SELECT user_id, requester_id, request_id, fetch_time
  FROM coin_fetch
  WHERE ${which}
  ORDER BY user_id, requester_id, request_id
  LIMIT ${SLICE}
),
due AS MATERIALIZED (
  SELECT f.user_id, f.requester_id, f.request_id
  FROM coin_fetch f
  JOIN slice s USING (user_id, requester_id, request_id)
  WHERE s.fetch_time <= now() - make_interval(secs => ${graceOfAll(graceSeconds)})
  ORDER BY f.user_id, f.requester_id, f.request_id
  FOR UPDATE OF f SKIP LOCKED
),
forgotten AS (
  DELETE FROM coin_fetch f
  USING due d
  WHERE f.user_id = d.user_id AND f.requester_id = d.requester_id AND f.request_id = d.request_id
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
  SELECT user_id, requester_id, request_id FROM slice ORDER BY user_id DESC, requester_id DESC, request_id DESC LIMIT 1
) last ON true`;
}
