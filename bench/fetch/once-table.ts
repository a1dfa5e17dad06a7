/** Creates the table of once-server.ts: each coin is stored as the bytes of its encoded answer. */
export const ONCE_TABLE = `
CREATE TABLE once_coin (
  user_id       uuid     NOT NULL,
  coin_category smallint NOT NULL,
  upload_order  bigint   NOT NULL,
  answer        bytea    STORAGE EXTERNAL,
  PRIMARY KEY (user_id, coin_category, upload_order)
) WITH (fillfactor = 90)`;

/**
 * Takes coins. Parameters: $1 the targets, $2 the number of coins for each, $3 the category. Returns one row per coin:
 * the position of its target and the bytes of the answer.
 */
export const ONCE_CLAIM = `
WITH picked AS MATERIALIZED (
  SELECT q.target, s.place
  FROM unnest((SELECT $1::uuid[]), (SELECT $2::int[])) WITH ORDINALITY AS q (user_id, wanted, target)
  CROSS JOIN LATERAL (
    SELECT o.ctid AS place FROM once_coin o WHERE o.user_id = q.user_id AND o.coin_category = $3::smallint
    ORDER BY o.upload_order LIMIT q.wanted FOR UPDATE SKIP LOCKED
  ) s
)
DELETE FROM once_coin o USING (SELECT * FROM picked LIMIT (SELECT 1000000)) p
WHERE o.ctid = p.place RETURNING p.target::int, o.answer`;
