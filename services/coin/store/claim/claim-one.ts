import { CompiledQuery } from 'kysely';
import { HAND_OUT_MARGIN_S, LIMITS } from '../../coin';
import { CURRENT_INCARNATION, guardOnOneNode } from '../../fence/guard';
import type { ClaimRow } from './answer';
import type { ClaimItem, StartOf, Targets } from './claim-item';

export interface ClaimOneOptions {
  /** The verified incarnation of the database, see guard.ts. */
  readonly incarnation: string;
  readonly targets: Targets;
  /** The least time for which an answer is remembered for repeats, in seconds; see fetch-grace.ts. */
  readonly graceSeconds: number;
  /**
   * `skip`: skip coins that another transaction has locked. `wait`: wait for the end of that
   * transaction.
   */
  readonly held: 'skip' | 'wait';
  /** True if the coins that are free may be the answer although other transactions hold coins. */
  readonly acceptShort: boolean;
  readonly startOf?: StartOf;
}

/**
 * Returns the full claim, which hands out coins for one item and records their requester. It also
 * answers repeats, short stock and locked coins, which the fast claims (claim-one-fast.ts,
 * claim-many-fast.ts) leave to it, and isolated fetches with fallback.
 *
 * - A repeat within the grace is answered from coin_fetch and takes nothing. Two repeats at the
 *   same time meet at the primary key of coin_fetch: the later one fails with a unique violation,
 *   its statement is rolled back, and it is tried again.
 * - An item is answered short only if no coin that it may take is held by another transaction
 *   (`settled`). So a short answer is true of the stock, and never the effect of a transaction that
 *   may still roll back.
 * - Every step depends on the guard: a database that is not the verified one gives and changes
 *   nothing.
 * - `picked` keeps ctids: rows of coin_stock are never updated, and these are locked, so the
 *   deletion finds them without the index. A ctid is unique within one partition, and all rows of a
 *   user are in one. Distributed tables use the key.
 * - There is one text for each count, so that its LIMIT is a constant. With a parameter PostgreSQL
 *   assumes a tenth of the user's stock, considers the generic plan too expensive, and plans again
 *   at every call (0.5 ms).
 * - `settled` counts the visible coins only if fewer were found than asked for.
 * - The lookup of the key bytes is LATERAL with OFFSET 0, which keeps it an index lookup for each
 *   coin in every plan.
 */
export function claimOne(item: ClaimItem, options: ClaimOneOptions): { compile(): CompiledQuery<ClaimRow> } {
  const text = TEXTS[options.targets][options.held][item.categories.length === 1 ? 'one' : 'several'][item.count - 1];
  if (text === undefined)
    throw new RangeError(`a fetch asks for 1 to ${LIMITS.coinsPerFetch} coins, not ${item.count}`);
  const starts = item.categories.map((category) => options.startOf?.(item.userId, item.deviceId, category) ?? 0n);
  const values = [
    item.userId,
    item.requesterId,
    item.requestId,
    item.coinCategory,
    item.count,
    item.allowLowerCategories,
    item.categories.length === 1 ? item.categories[0] : item.categories,
    options.graceSeconds,
    options.acceptShort,
    options.incarnation,
    item.categories.length === 1 ? starts[0] : starts,
    item.deviceId,
  ];
  return { compile: () => CompiledQuery.raw(text, values) as CompiledQuery<ClaimRow> };
}

/**
 * The check of the incarnation, the column that `picked` keeps of a row, and the condition by which
 * the deletion finds that row.
 */
const ACCESS = {
  several: {
    guard: `guard AS MATERIALIZED (
  SELECT ${CURRENT_INCARNATION} = $10::text AS verified
)`,
    location: 's.ctid',
    at: 's.ctid = p.location',
  },
  one: {
    guard: guardOnOneNode('$10'),
    location: 's.coin_category',
    at: 's.device_id = $12::uuid AND s.coin_category = p.location AND s.upload_order = p.upload_order',
  },
};

const TEXTS = { several: textsFor('several'), one: textsFor('one') };

function textsFor(targets: Targets) {
  const texts = (lock: string, categories: 'one' | 'several') =>
    Array.from({ length: LIMITS.coinsPerFetch }, (_, index) => text(index + 1, lock, categories, targets));
  return {
    skip: { one: texts('FOR UPDATE SKIP LOCKED', 'one'), several: texts('FOR UPDATE SKIP LOCKED', 'several') },
    wait: { one: texts('FOR UPDATE', 'one'), several: texts('FOR UPDATE', 'several') },
  };
}

/**
 * Parameters: $1 user, $2 requester, $3 request id; $4 category, $5 count and $6 fallback as asked;
 * $7 the category or categories to take from; $8 the least grace in seconds; $9 accept a short answer;
 * $10 the verified incarnation; $11 the start of the queue or queues; $12 the device.
 */
function text(count: number, lock: string, categories: 'one' | 'several', targets: Targets): string {
  const { guard, location, at } = ACCESS[targets];
  const handedOut = `s.expire_time > now() + interval '${HAND_OUT_MARGIN_S} seconds'`;
  const queue = (category: string, start: string, rank: string) => `
  SELECT ${location} AS location, ${rank} AS rank, s.upload_order
  FROM coin_stock s
  WHERE s.user_id = $1::uuid AND s.device_id = $12::uuid AND s.coin_category = ${category} AND s.upload_order >= ${start}
    AND ${handedOut} AND (SELECT verified FROM guard) AND NOT EXISTS (SELECT FROM remembered)
  ORDER BY s.upload_order
  LIMIT ${count}
  ${lock}`;
  const picked =
    categories === 'one'
      ? queue('$7::smallint', '$11::bigint', '1::bigint')
      : `
  SELECT s.location, c.rank, s.upload_order
  FROM unnest($7::smallint[], $11::bigint[]) WITH ORDINALITY AS c (coin_category, start, rank)
  CROSS JOIN LATERAL (${queue('c.coin_category', 'c.start', '0')}) s
  LIMIT ${count}`;
  const seen = (category: string, start: string) => `
      SELECT FROM coin_stock s
      WHERE s.user_id = $1::uuid AND s.device_id = $12::uuid AND s.coin_category = ${category}
        AND s.upload_order >= ${start} AND ${handedOut}
      LIMIT ${count}`;
  const visible =
    categories === 'one'
      ? seen('$7::smallint', '$11::bigint')
      : `
      SELECT FROM unnest($7::smallint[], $11::bigint[]) AS c (coin_category, start)
      CROSS JOIN LATERAL (${seen('c.coin_category', 'c.start')}) s
      LIMIT ${count}`;
  return `
WITH ${guard},
grace AS MATERIALIZED (
  SELECT greatest($8::int, max(seconds)) AS seconds FROM fetch_grace WHERE used_until > now()
),
remembered AS MATERIALIZED (
  SELECT f.key_ids, f.fetch_time,
    f.device_id IS NOT DISTINCT FROM $12::uuid
      AND (f.coin_category, f.coin_count, f.allow_lower_categories) = ($4::smallint, $5::smallint, $6::boolean) AS same
  FROM coin_fetch f
  WHERE f.user_id = $1::uuid AND f.requester_id = $2::uuid AND f.request_id = $3::uuid
    AND f.fetch_time > now() - make_interval(secs => (SELECT seconds FROM grace)) AND (SELECT verified FROM guard)
),
picked AS MATERIALIZED (${picked}
),
settled AS MATERIALIZED (
  SELECT CASE
    WHEN p.found = ${count} OR $9::boolean OR EXISTS (SELECT FROM remembered) THEN true
    WHEN NOT (SELECT verified FROM guard) THEN true
    ELSE p.found >= (
    SELECT count(*)
    FROM (${visible}
    ) visible
  ) END AS settled
  FROM (SELECT count(*) AS found FROM picked) p
),
taken AS (
  DELETE FROM coin_stock s
  USING picked p
  WHERE s.user_id = $1::uuid AND ${at} AND (SELECT settled FROM settled)
  RETURNING s.key_id, p.rank, s.upload_order
),
recorded AS (
  INSERT INTO coin_fetch
    (user_id, requester_id, request_id, coin_category, coin_count, allow_lower_categories, device_id, key_ids)
  SELECT $1::uuid, $2::uuid, $3::uuid, $4::smallint, $5::smallint, $6::boolean, $12::uuid,
    array_agg(key_id ORDER BY rank, upload_order)
  FROM taken
  HAVING count(*) > 0
)
SELECT answer.kind, answer.fetch_time, c.key_id, c.coin_category, c.public_key, c.signature, c.expire_time
FROM (
  SELECT 'coin' AS kind, rank, upload_order, key_id, NULL::timestamptz AS fetch_time FROM taken
  UNION ALL
  SELECT CASE WHEN r.same THEN 'coin' ELSE 'reused' END, 0, k.location, k.key_id, CASE WHEN r.same THEN r.fetch_time END
  FROM remembered r, unnest(CASE WHEN r.same THEN r.key_ids ELSE ARRAY[NULL]::uuid[] END) WITH ORDINALITY AS k (key_id, location)
  UNION ALL
  SELECT 'contended', 0, 0, NULL, NULL FROM settled WHERE NOT settled
  UNION ALL
  SELECT 'unverified', 0, 0, NULL, NULL FROM guard WHERE NOT verified
) answer
LEFT JOIN LATERAL (
  SELECT c.key_id, c.coin_category, c.public_key, c.signature, c.expire_time
  FROM coin c
  WHERE c.user_id = $1::uuid AND c.key_id = answer.key_id
  OFFSET 0
) c ON true
ORDER BY answer.rank, answer.upload_order`;
}
