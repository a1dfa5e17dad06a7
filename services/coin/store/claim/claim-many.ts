import { type RawBuilder, sql } from 'kysely';
import type { CoinCategory } from '../../../../gen/aqm/coin/v1/coin';
import { HAND_OUT_MARGIN_S } from '../../coin';
import { isVerified } from '../../fence/guard';

/** One fetch as the claim statement sees it. */
export interface ClaimItem {
  /** Who asks. */
  readonly requesterId: string;
  /** Whose coins. */
  readonly userId: string;
  readonly requestId: string;
  readonly coinCategory: CoinCategory;
  readonly count: number;
  readonly allowLowerCategories: boolean;
  /** The categories to take from, in this order. */
  readonly categories: readonly CoinCategory[];
}

export interface ClaimOptions {
  /** How long an answer is remembered for repeats, in seconds. */
  readonly graceSeconds: number;
  /** 'skip': step over coins that another transaction holds. 'wait': wait for that transaction's end. */
  readonly held: 'skip' | 'wait';
  /** Answer with what could be had, also when coins were held by others. */
  readonly acceptShort: boolean;
  /** See guard.ts. */
  readonly incarnation: string;
  readonly targets: Targets;
}

/**
 * Of whom one statement may hand out. 'several': it finds the rows that it locked by ctid. 'one': the tables are distributed by
 * user_id (docs/distributed.md), so it names one user_id in every step, and finds the rows by their key.
 */
export type Targets = 'one' | 'several';

/** One coin of one item's answer, or the word on an item that got none. */
export interface ClaimRow {
  /** Index of the item, from 1. */
  item: number;
  /**
   * coin: in the order of the answer. reused: the request id belongs to other parameters. contended:
   * there may be more coins than this statement could take, so it took none for this item; ask again. unverified (one
   * row, of no item): the stamp did not fit, and the statement did nothing.
   */
  kind: 'coin' | 'reused' | 'contended' | 'unverified';
  /** When an earlier statement handed it out, for which this is the answer to a repeat. NULL: this one did. */
  fetch_time: Date | null;
  key_id: string | null;
  coin_category: CoinCategory | null;
  public_key: Buffer | null;
  signature: Buffer | null;
  expire_time: Date | null;
}

/**
 * The claim: hands out coins for several items, of any users, in one statement and remembers who got which.
 *
 * - Items with the same user and the same categories share one scan of the queue in upload order, which is then
 *   divided among them in their order. Scans of one user must not overlap in a category: a statement does not
 *   skip its own locks and would pick a coin twice (split-batch.ts sees to that).
 * - A repeat within the grace is answered from coin_fetch and takes nothing. Two repeats at the same time meet at
 *   the primary key of coin_fetch: the later one fails with a unique violation, its coins go back, and it asks again.
 * - An item is served whole, or short only if its scan met no coin that others hold (`seen` = `found`): so a short
 *   answer is the truth about the stock, and never the shadow of a transaction that may still roll back.
 * - Everything hangs on `asked`, and that on the stamp: a database that is not the verified one gives and changes nothing.
 * - The lookup of key bytes is LATERAL with OFFSET 0, which keeps it an index lookup per coin in every plan.
 */
export function claim(items: readonly ClaimItem[], options: Omit<ClaimOptions, 'targets'>): RawBuilder<ClaimRow> {
  const lock = options.held === 'skip' ? sql`FOR UPDATE SKIP LOCKED` : sql`FOR UPDATE`;
  const handedOutUntil = sql`now() + make_interval(secs => ${HAND_OUT_MARGIN_S})`;
  return sql<ClaimRow>`
WITH gate AS MATERIALIZED (
  SELECT ${isVerified(options.incarnation)} AS verified
),
asked AS MATERIALIZED (
  SELECT *
  FROM unnest(
    ${items.map((item) => item.userId)}::uuid[],
    ${items.map((item) => item.requesterId)}::uuid[],
    ${items.map((item) => item.requestId)}::uuid[],
    ${items.map((item) => item.coinCategory)}::smallint[],
    ${items.map((item) => item.count)}::smallint[],
    ${items.map((item) => item.allowLowerCategories)}::boolean[],
    ${items.map((item) => `{${item.categories.join()}}`)}::text[]
  ) WITH ORDINALITY AS a
    (user_id, requester_id, request_id, coin_category, coin_count, allow_lower_categories, categories, item)
  WHERE (SELECT verified FROM gate)
),
remembered AS MATERIALIZED (
  SELECT a.item, a.user_id, f.fetch_time, f.key_ids,
    (f.coin_category, f.coin_count, f.allow_lower_categories)
      = (a.coin_category, a.coin_count, a.allow_lower_categories) AS same
  FROM asked a
  JOIN coin_fetch f
    ON f.user_id = a.user_id AND f.requester_id = a.requester_id AND f.request_id = a.request_id
  WHERE f.fetch_time > now() - make_interval(secs => ${options.graceSeconds})
),
fresh AS MATERIALIZED (
  SELECT a.*, sum(a.coin_count) OVER (PARTITION BY a.user_id, a.categories ORDER BY a.item) AS upto
  FROM asked a
  WHERE NOT EXISTS (SELECT FROM remembered r WHERE r.item = a.item)
),
scan AS MATERIALIZED (
  SELECT user_id, categories, max(upto) AS wanted
  FROM fresh
  GROUP BY user_id, categories
  ORDER BY user_id, categories
),
picked AS MATERIALIZED (
  SELECT q.user_id, q.categories, s.coin_category, s.upload_order,
    row_number() OVER (PARTITION BY q.user_id, q.categories ORDER BY s.rank, s.upload_order) AS position
  FROM scan q
  CROSS JOIN LATERAL (
    SELECT c.rank, s.coin_category, s.upload_order
    FROM unnest(q.categories::smallint[]) WITH ORDINALITY AS c (coin_category, rank)
    CROSS JOIN LATERAL (
      SELECT s.coin_category, s.upload_order
      FROM coin_stock s
      WHERE s.user_id = q.user_id AND s.coin_category = c.coin_category AND s.expire_time > ${handedOutUntil}
      ORDER BY s.upload_order
      LIMIT q.wanted
      ${lock}
    ) s
    LIMIT q.wanted
  ) s
),
tally AS MATERIALIZED (
  SELECT q.user_id, q.categories, p.found,
    CASE WHEN p.found = q.wanted THEN p.found ELSE (
      SELECT count(*)
      FROM (
        SELECT
        FROM coin_stock s
        WHERE s.user_id = q.user_id AND s.coin_category = ANY (q.categories::smallint[])
          AND s.expire_time > ${handedOutUntil}
        LIMIT q.wanted
      ) visible
    ) END AS seen
  FROM scan q
  CROSS JOIN LATERAL (
    SELECT count(*) AS found FROM picked p WHERE p.user_id = q.user_id AND p.categories = q.categories
  ) p
),
served AS MATERIALIZED (
  SELECT f.*, (f.upto <= t.found OR t.seen <= t.found OR ${options.acceptShort}::boolean) AS settled
  FROM fresh f
  JOIN tally t ON t.user_id = f.user_id AND t.categories = f.categories
),
taken AS (
  DELETE FROM coin_stock s
  USING picked p, served f
  WHERE s.user_id = p.user_id AND s.coin_category = p.coin_category AND s.upload_order = p.upload_order
    AND f.user_id = p.user_id AND f.categories = p.categories
    AND p.position > f.upto - f.coin_count AND p.position <= f.upto AND f.settled
  RETURNING f.item, p.position, s.user_id, s.key_id
),
recorded AS (
  INSERT INTO coin_fetch
    (user_id, requester_id, request_id, coin_category, coin_count, allow_lower_categories, key_ids)
  SELECT a.user_id, a.requester_id, a.request_id, a.coin_category, a.coin_count, a.allow_lower_categories, t.key_ids
  FROM (SELECT item, array_agg(key_id ORDER BY position) AS key_ids FROM taken GROUP BY item) t
  JOIN asked a USING (item)
  ORDER BY a.user_id, a.requester_id, a.request_id
)
SELECT answer.item::int, answer.kind, answer.fetch_time,
  c.key_id, c.coin_category, c.public_key, c.signature, c.expire_time
FROM (
  SELECT item, 'coin' AS kind, position, user_id, key_id, NULL::timestamptz AS fetch_time FROM taken
  UNION ALL
  SELECT r.item, 'coin', k.position, r.user_id, k.key_id, r.fetch_time
  FROM remembered r, unnest(r.key_ids) WITH ORDINALITY AS k (key_id, position)
  WHERE r.same
  UNION ALL
  SELECT item, 'reused', 0, NULL, NULL, NULL FROM remembered WHERE NOT same
  UNION ALL
  SELECT item, 'contended', 0, NULL, NULL, NULL FROM served WHERE NOT settled
  UNION ALL
  SELECT 0, 'unverified', 0, NULL, NULL, NULL FROM gate WHERE NOT verified
) answer
LEFT JOIN LATERAL (
  SELECT c.key_id, c.coin_category, c.public_key, c.signature, c.expire_time
  FROM coin c
  WHERE c.user_id = answer.user_id AND c.key_id = answer.key_id
  OFFSET 0
) c ON true
ORDER BY answer.item, answer.position`;
}
