import { CompiledQuery } from 'kysely';
import { HAND_OUT_MARGIN_S, LIMITS } from '../../coin';
import { CURRENT_INCARNATION, guardOnOneNode } from '../../fence/guard';
import type { ClaimRow } from './answer';
import type { ClaimItem, StartOf, Targets } from './claim-item';

/**
 * Returns the fast claim of one item of one category, for the usual case: a request id that was
 * never used, and coins that are all there and free. It hands out and records what claim-one.ts
 * would. In every other case (a repeat, short stock, locked coins, another database) it changes
 * nothing and returns no row, and the caller falls back to claim-one.ts. Without those cases
 * PostgreSQL sets up half of the plan.
 *
 * - The record is written first. If one with the same id exists, nothing is deleted; if another
 *   transaction is writing it at this moment, this statement waits for the end of that transaction.
 * - Rows are found by the ctid that was locked a moment before; rows of coin_stock are never
 *   updated. A ctid is unique within one partition, and all rows of a user are in one. Distributed
 *   tables use the key.
 * - The recorded ids are the answer, and columns that are the same in every row are left out.
 */
export function claimOneFast(
  item: ClaimItem,
  options: { readonly incarnation: string; readonly targets: Targets; readonly startOf?: StartOf },
): { compile(): CompiledQuery<ClaimRow> } {
  const text = TEXTS[options.targets][item.count - 1];
  if (text === undefined)
    throw new RangeError(`a fetch asks for 1 to ${LIMITS.coinsPerFetch} coins, not ${item.count}`);
  const values = [
    item.userId,
    item.requesterId,
    item.requestId,
    item.coinCategory,
    item.count,
    item.allowLowerCategories,
    options.incarnation,
    options.startOf?.(item.userId, item.deviceId, item.coinCategory) ?? 0n,
    item.deviceId,
  ];
  return { compile: () => CompiledQuery.raw(text, values) as CompiledQuery<ClaimRow> };
}

const ONE = {
  keyIds: 'ARRAY[key_id] FROM picked',
  locations: '= (SELECT location FROM picked)',
  from: 'recorded r',
  keyId: 'r.key_ids[1]',
  order: '',
};

const several = (count: number) => ({
  keyIds: `key_ids
  FROM (SELECT ARRAY(SELECT key_id FROM picked ORDER BY upload_order) AS key_ids OFFSET 0) p
  WHERE cardinality(key_ids) = ${count}`,
  locations: '= ANY (ARRAY(SELECT location FROM picked))',
  from: 'recorded r CROSS JOIN unnest(r.key_ids) WITH ORDINALITY AS k (key_id, position)',
  keyId: 'k.key_id',
  order: 'ORDER BY k.position',
});

/** The check of the incarnation, and the condition by which the deletion finds the locked rows. */
const ACCESS = {
  several: { guard: '', verified: `${CURRENT_INCARNATION} = $7::text`, location: 's.ctid', at: 's.ctid' },
  one: {
    guard: `${guardOnOneNode('$7')},
`,
    verified: '(SELECT verified FROM guard)',
    location: 's.upload_order',
    at: 's.device_id = $9::uuid AND s.coin_category = $4::smallint AND s.upload_order',
  },
};

const TEXTS = { several: textsFor('several'), one: textsFor('one') };

function textsFor(targets: Targets): string[] {
  return Array.from({ length: LIMITS.coinsPerFetch }, (_, index) => textFor(index + 1, targets));
}

/**
 * Parameters: $1 user, $2 requester, $3 request id; $4 category, $5 count and $6 fallback as asked;
 * $7 the verified incarnation; $8 the start of the queue; $9 the device. There is one text for each count, for the reason given in
 * claim-one.ts.
 */
function textFor(count: number, targets: Targets): string {
  const { guard, verified, location, at } = ACCESS[targets];
  const { keyIds, locations, from, keyId, order } = count === 1 ? ONE : several(count);
  return `
WITH ${guard}picked AS MATERIALIZED (
  SELECT ${location} AS location, s.upload_order, s.key_id
  FROM coin_stock s
  WHERE s.user_id = $1::uuid AND s.device_id = $9::uuid AND s.coin_category = $4::smallint
    AND s.upload_order >= $8::bigint AND s.expire_time > now() + interval '${HAND_OUT_MARGIN_S} seconds'
    AND ${verified}
  ORDER BY s.upload_order
  LIMIT ${count}
  FOR UPDATE SKIP LOCKED
),
recorded AS (
  INSERT INTO coin_fetch
    (user_id, requester_id, request_id, coin_category, coin_count, allow_lower_categories, device_id, key_ids)
  SELECT $1::uuid, $2::uuid, $3::uuid, $4::smallint, $5::smallint, $6::boolean, $9::uuid, ${keyIds}
  ON CONFLICT DO NOTHING
  RETURNING key_ids
),
taken AS (
  DELETE FROM coin_stock s
  WHERE s.user_id = $1::uuid AND ${at} ${locations} AND EXISTS (SELECT FROM recorded)
)
SELECT c.key_id, c.coin_category, c.public_key, c.signature, c.expire_time
FROM ${from}
CROSS JOIN LATERAL (
  SELECT c.key_id, c.coin_category, c.public_key, c.signature, c.expire_time
  FROM coin c
  WHERE c.user_id = $1::uuid AND c.key_id = ${keyId}
  OFFSET 0
) c
${order}`;
}
