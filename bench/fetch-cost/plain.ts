/**
 * The plain claim: what a service without any of our promises but "once" would send. One wide table with the key bytes
 * in it and one index for the queue, which a fetch writes to. Two forms, both with the same filter, order and lock as ours:
 * delete, which forgets at once, and update, which keeps who fetched what in the row.
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
CREATE INDEX plain_queue ON plain_coin (user_id, coin_category, upload_order) WHERE fetch_time IS NULL;`;

const PICKED = `
WITH picked AS (
  SELECT user_id, key_id
  FROM plain_coin
  WHERE user_id = $1 AND coin_category = $2 AND fetch_time IS NULL AND expire_time > now() + interval '24 hours'
  ORDER BY upload_order
  LIMIT $3
  FOR UPDATE SKIP LOCKED
)`;

const RETURNED = 'c.key_id, c.coin_category, c.public_key, c.signature, c.expire_time';

/** Parameters: user, category, count. */
export const PLAIN_DELETE = `${PICKED}
DELETE FROM plain_coin c USING picked p WHERE c.user_id = p.user_id AND c.key_id = p.key_id RETURNING ${RETURNED}`;

/** Parameters: user, category, count, requester. */
export const PLAIN_UPDATE = `${PICKED}
UPDATE plain_coin c SET fetch_time = now(), fetched_by = $4
FROM picked p WHERE c.user_id = p.user_id AND c.key_id = p.key_id RETURNING ${RETURNED}`;
