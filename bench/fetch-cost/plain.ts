/**
 * SQL that creates the table of the plain claim, the statement of a service whose only promise is
 * that no coin is handed out twice. It is the baseline for what the other promises of our claim
 * (services/coin/store/claim) cost. One wide table includes the key bytes, with three partial
 * indexes: one for the queue, one for the purge, one for the hard delete. Filter, order and lock are
 * the same as ours. LIMIT is a constant in both, because with a parameter PostgreSQL would plan
 * again at every call. There are two forms:
 * - the usual one updates the row with the requester and the time, and finds it by primary key;
 * - the leanest one deletes the row (so that it needs no purge), and finds it by ctid and user, as
 *   ours does.
 */
export const PLAIN_TABLE = `
CREATE TABLE plain_coin (
  user_id       uuid        NOT NULL,
  key_id        uuid        NOT NULL,
  coin_category smallint    NOT NULL,
  upload_order  bigint      NOT NULL,
  expire_time   timestamptz NOT NULL,
  upload_time   timestamptz NOT NULL DEFAULT now(),
  public_key    bytea       STORAGE EXTERNAL,
  signature     bytea       STORAGE EXTERNAL,
  fetch_time    timestamptz,
  fetched_by    uuid,
  PRIMARY KEY (user_id, key_id)
);
CREATE INDEX plain_queue ON plain_coin (user_id, coin_category, upload_order) WHERE fetch_time IS NULL;
CREATE INDEX plain_stale ON plain_coin (upload_time) WHERE fetch_time IS NULL;
CREATE INDEX plain_fetched ON plain_coin (fetch_time) WHERE fetch_time IS NOT NULL;`;

const picked = (columns: string, limit: number) => `
WITH picked AS (
  SELECT ${columns}
  FROM plain_coin
  WHERE user_id = $1 AND coin_category = $2 AND fetch_time IS NULL AND expire_time > now() + interval '24 hours'
  ORDER BY upload_order
  LIMIT ${limit}
  FOR UPDATE SKIP LOCKED
)`;

const RETURNED = 'c.key_id, c.coin_category, c.public_key, c.signature, c.expire_time';

/** Returns the usual form. Parameters: user, category, requester. */
export function usualClaim(count: number): string {
  return `${picked('user_id, key_id', count)}
UPDATE plain_coin c SET fetch_time = now(), fetched_by = $3
FROM picked p WHERE c.user_id = p.user_id AND c.key_id = p.key_id RETURNING ${RETURNED}`;
}

/** Returns the leanest form. Parameters: user, category. */
export function leanestClaim(count: number): string {
  return `${picked('ctid AS location', count)}
DELETE FROM plain_coin c USING picked p WHERE c.user_id = $1 AND c.ctid = p.location RETURNING ${RETURNED}`;
}
