import { CompiledQuery } from 'kysely';
import { HAND_OUT_MARGIN_S, LIMITS } from '../../coin';
import { CURRENT_INCARNATION, guardOnOneNode } from '../../fence/guard';
import type { ClaimItem, ClaimOptions, ClaimRow, Targets } from './claim-many';

/** A coin that was handed out; all of them are. */
export type FastClaimRow = Pick<ClaimRow, 'key_id' | 'coin_category' | 'public_key' | 'signature' | 'expire_time'>;

/** What such a row does not say, because all would say it alike. */
export function toClaimRow(row: (FastClaimRow & { item?: number }) | ClaimRow): ClaimRow {
  if ('kind' in row) return row;
  const { item = 1, key_id, coin_category, public_key, signature, expire_time } = row;
  return { item, kind: 'coin', fetch_time: null, key_id, coin_category, public_key, signature, expire_time };
}

/**
 * The claim of one item of one category when nothing is special: an id that was never used, and coins that are all there and
 * free. It then hands out and records what claim-one.ts would; otherwise it does nothing and gives no row, and claim-one.ts
 * is asked, which has the words for repeats, short answers and another database. Without them PostgreSQL sets up half of the
 * plan.
 *
 * - The record comes first. Where there is one of the same id, nothing is deleted; where another statement makes it at this
 *   moment, this one waits for its end.
 * - Rows are found by the ctid that was locked a moment before; rows of coin_stock are never updated. A ctid is unique in one
 *   partition only, and a user's rows are in one. Where the tables are distributed: by their key.
 * - What was recorded is the answer: nothing of what every row would say alike travels.
 */
export function claimOneFast(
  item: ClaimItem,
  options: Pick<ClaimOptions, 'incarnation' | 'targets'>,
): { compile(): CompiledQuery<FastClaimRow> } {
  const text = TEXTS[options.targets][item.count - 1];
  if (text === undefined) throw new RangeError(`no fetch asks for ${item.count} coins`);
  const values = [
    item.userId,
    item.requesterId,
    item.requestId,
    item.coinCategory,
    item.count,
    item.allowLowerCategories,
    options.incarnation,
  ];
  return { compile: () => CompiledQuery.raw(text, values) as CompiledQuery<FastClaimRow> };
}

const ONE = {
  keyIds: 'ARRAY[key_id] FROM picked',
  places: '= (SELECT place FROM picked)',
  from: 'recorded r',
  keyId: 'r.key_ids[1]',
  order: '',
};

const several = (count: number) => ({
  keyIds: `key_ids
  FROM (SELECT ARRAY(SELECT key_id FROM picked ORDER BY upload_order) AS key_ids OFFSET 0) p
  WHERE cardinality(key_ids) = ${count}`,
  places: '= ANY (ARRAY(SELECT place FROM picked))',
  from: 'recorded r CROSS JOIN unnest(r.key_ids) WITH ORDINALITY AS k (key_id, position)',
  keyId: 'k.key_id',
  order: 'ORDER BY k.position',
});

/** Where the stamp is looked at, and how rows are found again. */
const FINDING = {
  several: { gate: '', verified: `${CURRENT_INCARNATION} = $7::text`, place: 's.ctid', at: 's.ctid' },
  one: {
    gate: `${guardOnOneNode('$7')},
`,
    verified: '(SELECT verified FROM gate)',
    place: 's.upload_order',
    at: 's.coin_category = $4::smallint AND s.upload_order',
  },
};

const TEXTS = { several: textsFor('several'), one: textsFor('one') };

function textsFor(targets: Targets): string[] {
  return Array.from({ length: LIMITS.coinsPerFetch }, (_, index) => textFor(index + 1, targets));
}

/**
 * $1 user, $2 requester, $3 request id, $4 category, $5 count and $6 fallback as asked, $7 the verified stamp. One text for
 * each count, see claim-one.ts.
 */
function textFor(count: number, targets: Targets): string {
  const { gate, verified, place, at } = FINDING[targets];
  const { keyIds, places, from, keyId, order } = count === 1 ? ONE : several(count);
  return `
WITH ${gate}picked AS MATERIALIZED (
  SELECT ${place} AS place, s.upload_order, s.key_id
  FROM coin_stock s
  WHERE s.user_id = $1::uuid AND s.coin_category = $4::smallint
    AND s.expire_time > now() + interval '${HAND_OUT_MARGIN_S} seconds'
    AND ${verified}
  ORDER BY s.upload_order
  LIMIT ${count}
  FOR UPDATE SKIP LOCKED
),
recorded AS (
  INSERT INTO coin_fetch
    (user_id, requester_id, request_id, coin_category, coin_count, allow_lower_categories, key_ids)
  SELECT $1::uuid, $2::uuid, $3::uuid, $4::smallint, $5::smallint, $6::boolean, ${keyIds}
  ON CONFLICT DO NOTHING
  RETURNING key_ids
),
taken AS (
  DELETE FROM coin_stock s
  WHERE s.user_id = $1::uuid AND ${at} ${places} AND EXISTS (SELECT FROM recorded)
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
