import { sql } from 'kysely';
import { run } from '../../database/connection';
import type { Database } from '../../database/pool';
import type { Deadline } from '../../deadline';
import { graceOfAll } from '../fetch-grace';
import type { ClaimItem } from './claim-item';

/**
 * Hard-deletes the record of one request whose fetch grace has passed, so that its id can be used
 * again before the hourly hard delete removes it. Does nothing while the grace lasts or another
 * transaction holds the record.
 */
export async function expireRequest(
  { db, graceSeconds }: { readonly db: Database; readonly graceSeconds: number },
  { userId, requesterId, requestId }: Pick<ClaimItem, 'userId' | 'requesterId' | 'requestId'>,
  deadline: Deadline,
): Promise<void> {
  await run(
    db,
    sql`
WITH due AS MATERIALIZED (
  SELECT f.requester_id, f.request_id
  FROM coin_fetch f
  WHERE f.user_id = ${userId}::uuid AND f.requester_id = ${requesterId}::uuid AND f.request_id = ${requestId}::uuid
    AND f.fetch_time <= now() - make_interval(secs => ${graceOfAll(graceSeconds)})
  FOR UPDATE OF f SKIP LOCKED
),
expired AS (
  DELETE FROM coin_fetch f
  USING due d
  WHERE f.user_id = ${userId}::uuid AND f.requester_id = d.requester_id AND f.request_id = d.request_id
  RETURNING f.key_ids
)
UPDATE coin c
SET public_key = NULL, signature = NULL
FROM (SELECT unnest(key_ids) AS key_id FROM expired) k
WHERE c.user_id = ${userId}::uuid AND c.key_id = k.key_id`,
    deadline,
  );
}
