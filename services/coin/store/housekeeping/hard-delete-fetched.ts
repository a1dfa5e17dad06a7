import { type RawBuilder, sql } from 'kysely';
import { run } from '../../database/connection';
import type { Database } from '../../database/pool';
import type { Deadline } from '../../deadline';
import { graceOfAll } from '../fetch-grace';
import { inPages, overFetches } from '../fetch-pages';

/**
 * The number of pages whose requests one statement deletes, and the largest number of requests in
 * them. There are about 250, each of at most 20 coins; a row has at least 132 bytes.
 */
const PAGES = 4;
const MOST = 256;

/**
 * Hard-deletes the coins that were fetched longer ago than the given grace and the fetch grace of
 * every service, request by request: the record of who fetched them, and their key bytes. The bare
 * row in coin stays, so that the id cannot be uploaded again. Reads coin_fetch in its physical order, and deletes in small statements.
 * A request of which another transaction holds the record or a coin is left for the next run.
 * Several servers may run it at the same time.
 * @returns the number of coins that were removed
 * @throws DeadlineExceededError or CancelledError between two statements, where earlier removals
 *   persist
 */
export async function hardDeleteFetched(db: Database, graceSeconds: number, deadline: Deadline): Promise<number> {
  let deleted = 0;
  for await (const pages of overFetches(db, deadline, (part) => pagesWithDue(part, graceSeconds))) {
    let next = 0;
    for (const { page } of pages) {
      if (page < next) continue;
      next = page + PAGES;
      for (let isFull = true; isFull; ) {
        const [removed] = await run(db, remove(inPages(page, next), graceSeconds), deadline);
        deleted += removed?.deleted ?? 0;
        // These pages of several partitions may hold more.
        isFull = removed?.found === MOST && removed.deleted > 0;
      }
    }
  }
  return deleted;
}

/** Builds the statement that finds the pages with requests whose grace is over, in their order. */
function pagesWithDue(part: RawBuilder<boolean>, graceSeconds: number) {
  return sql<{ page: number }>`
SELECT DISTINCT (f.ctid::text::point)[0]::int AS page
FROM coin_fetch f
WHERE ${part} AND f.fetch_time <= now() - make_interval(secs => ${graceOfAll(graceSeconds)})
ORDER BY page`;
}

/**
 * Builds the statement for some pages. It waits for no lock: `free` are the coins that it could
 * lock, and a request with another coin is held. The limits let the planner expect few rows; with a
 * generic plan it would otherwise read the whole tables (690 coins/s instead of 12,000).
 */
function remove(pages: RawBuilder<boolean>, graceSeconds: number) {
  return sql<{ found: number; deleted: number }>`
WITH due AS MATERIALIZED (
  SELECT f.user_id, f.requester_id, f.request_id, f.key_ids
  FROM coin_fetch f
  WHERE ${pages} AND f.fetch_time <= now() - make_interval(secs => ${graceOfAll(graceSeconds)})
  LIMIT ${MOST}
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
  FROM (SELECT user_id, unnest(key_ids) AS key_id FROM forgotten LIMIT (SELECT 1000000)) k
  WHERE c.user_id = k.user_id AND c.key_id = k.key_id
  RETURNING c.key_id
)
SELECT (SELECT count(*) FROM due)::int AS found, (SELECT count(*) FROM blanked)::int AS deleted`;
}
