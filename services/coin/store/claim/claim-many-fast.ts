import { CompiledQuery } from 'kysely';
import { HAND_OUT_MARGIN_S } from '../../coin';
import { booleans, integers, smallints, uuids } from '../../database/binary-arrays';
import { CURRENT_INCARNATION, guardOnOneNode } from '../../fence/guard';
import type { ClaimRow } from './answer';
import type { ClaimItem, Targets } from './claim-item';

/**
 * Returns the fast claim of several items, of any users and by any requesters: for a batch what
 * claim-one-fast.ts is for one item. Each item is served completely from the first of its
 * categories, or not at all. An item that is not served has no row, and the caller falls back to
 * claim-one.ts for it. So a fallback that is not needed costs nothing, and one that is needed costs
 * a statement.
 *
 * - Items of one user and category share one scan of the queue in upload order and divide it in
 *   their own order: a statement does not skip its own locks, so two scans would pick the same
 *   coins. array_agg keeps the order of the scan (PostgreSQL, "Aggregate Functions": sorted input
 *   from a subquery); an ORDER BY of its own would sort again.
 * - Records are written in the order of their primary key, and the statement never waits for a
 *   coin, so two statements that meet wait in one direction only. If a record of the same id exists
 *   (an earlier item's too), nothing is deleted for the item.
 * - The recorded ids are the answer. They also identify the item, because items share no coin.
 * - If no caller chose an id, no record can exist: all are written, in any order, and the picked
 *   ids are the answer. That saves a tenth of PostgreSQL's time.
 * - Parameters stand in SELECTs of their own, which hides the number of items from the planner.
 *   Otherwise it considers the custom plan better than the generic one, and plans again at every
 *   call.
 * - LIMIT on the deletion makes the planner expect few rows. Without it a plan made while
 *   coin_stock was small reads the whole table.
 * - Rows are found by ctid and user, because with partitions a ctid is not unique. Distributed
 *   tables use the key.
 */
export function claimManyFast(
  items: readonly ClaimItem[],
  options: { readonly incarnation: string; readonly targets: Targets },
): { compile(): CompiledQuery<ClaimRow> } {
  const scans = new Map<string, Scan>();
  const parts = items.map((item) => {
    const coinCategory = item.categories[0] ?? item.coinCategory;
    const name = `${item.userId} ${coinCategory}`;
    let scan = scans.get(name);
    if (!scan) {
      scan = { number: scans.size + 1, userId: item.userId, coinCategory, wanted: 0 };
      scans.set(name, scan);
    }
    scan.wanted += item.count;
    return { scan: scan.number, upto: scan.wanted };
  });
  const distinct = [...scans.values()];
  if (options.targets === 'one' && distinct.some(({ userId }) => userId !== distinct[0]?.userId)) {
    throw new RangeError('a statement for one user was given items of several');
  }
  const values = [
    options.targets === 'one' ? distinct[0]?.userId : uuids(distinct, ({ userId }) => userId),
    smallints(distinct, ({ coinCategory }) => coinCategory),
    integers(distinct, ({ wanted }) => wanted),
    integers(parts, ({ scan }) => scan),
    integers(parts, ({ upto }) => upto),
    uuids(items, ({ requesterId }) => requesterId),
    uuids(items, ({ requestId }) => requestId),
    smallints(items, ({ coinCategory }) => coinCategory),
    smallints(items, ({ count }) => count),
    booleans(items, ({ allowLowerCategories }) => allowLowerCategories),
    options.incarnation,
  ];
  const text = TEXTS[options.targets][items.some(({ isRepeatable }) => isRepeatable) ? 'chosen' : 'random'];
  return { compile: () => CompiledQuery.raw(text, values) as CompiledQuery<ClaimRow> };
}

interface Scan {
  readonly number: number;
  readonly userId: string;
  readonly coinCategory: number;
  wanted: number;
}

/** The parts in which the statement texts for one and for several users differ. */
interface Pieces {
  readonly gate: string;
  readonly verified: string;
  readonly scans: string;
  readonly user: (of: string) => string;
  /**
   * The column that is kept of a locked row, and the condition by which the deletion finds that
   * row.
   */
  readonly location: string;
  readonly at: string;
  /** The category of the scan, which each step passes to the next. */
  readonly category: (of: string) => string;
}

const TEXTS = {
  several: textsFor({
    gate: '',
    verified: `${CURRENT_INCARNATION} = $11::text`,
    location: 's.ctid',
    at: 's.ctid = v.location',
    category: () => '',
    scans:
      'unnest((SELECT $1::uuid[]), (SELECT $2::smallint[]), (SELECT $3::int[])) WITH ORDINALITY AS q (user_id, category, wanted, scan)',
    user: (of: string) => `${of}.user_id`,
  }),
  one: textsFor({
    gate: `${guardOnOneNode('$11')},
`,
    verified: '(SELECT verified FROM gate)',
    location: 's.upload_order',
    at: 's.coin_category = v.category AND s.upload_order = v.location',
    category: (of: string) => `, ${of}.category`,
    scans: 'unnest((SELECT $2::smallint[]), (SELECT $3::int[])) WITH ORDINALITY AS q (category, wanted, scan)',
    user: () => '$1::uuid',
  }),
};

/**
 * Returns two texts: for batches in which a caller chose a request id, and for batches with random
 * ids only.
 */
function textsFor(pieces: Pieces): { readonly chosen: string; readonly random: string } {
  const { category } = pieces;
  const onlyNew = {
    record: `
  ORDER BY i.user_id, i.requester_id, i.request_id, i.item
  ON CONFLICT DO NOTHING
  RETURNING user_id, key_ids
),
served AS MATERIALIZED (
  SELECT i.item, i.user_id${category('i')}, i.locations, i.key_ids
  FROM recorded r
  JOIN item i ON i.user_id = r.user_id AND i.key_ids = r.key_ids`,
    served: 'served',
  };
  return { chosen: textFor(pieces, onlyNew), random: textFor(pieces, { record: '', served: 'item' }) };
}

/**
 * Parameters: $1 users, $2 categories and $3 coin counts of the scans; for each item $4 its scan,
 * $5 the last position in that scan, $6 requester, $7 request id, $8 category, $9 count and $10
 * fallback as asked; $11 the verified incarnation.
 */
function textFor(
  { gate, verified, scans, user, location, at, category }: Pieces,
  { record, served }: { readonly record: string; readonly served: string },
): string {
  return `
WITH ${gate}scan AS MATERIALIZED (
  SELECT q.scan, ${user('q')} AS user_id${category('q')}, p.locations, p.key_ids
  FROM ${scans}
  CROSS JOIN LATERAL (
    SELECT array_agg(s.location) AS locations, array_agg(s.key_id) AS key_ids
    FROM (
      SELECT ${location} AS location, s.key_id
      FROM coin_stock s
      WHERE s.user_id = ${user('q')} AND s.coin_category = q.category
        AND s.expire_time > now() + interval '${HAND_OUT_MARGIN_S} seconds'
        AND ${verified}
      ORDER BY s.upload_order
      LIMIT q.wanted
      FOR UPDATE SKIP LOCKED
    ) s
  ) p
),
item AS MATERIALIZED (
  SELECT i.item, s.user_id${category('s')}, i.requester_id, i.request_id, i.coin_category, i.coin_count, i.allow_lower_categories,
    s.locations[i.upto - i.coin_count + 1 : i.upto] AS locations, s.key_ids[i.upto - i.coin_count + 1 : i.upto] AS key_ids
  FROM unnest(
    (SELECT $4::int[]), (SELECT $5::int[]), (SELECT $6::uuid[]), (SELECT $7::uuid[]),
    (SELECT $8::smallint[]), (SELECT $9::smallint[]), (SELECT $10::boolean[])
  ) WITH ORDINALITY AS i (scan, upto, requester_id, request_id, coin_category, coin_count, allow_lower_categories, item)
  JOIN scan s ON s.scan = i.scan
  WHERE cardinality(s.key_ids) >= i.upto
),
recorded AS (
  INSERT INTO coin_fetch
    (user_id, requester_id, request_id, coin_category, coin_count, allow_lower_categories, key_ids)
  SELECT i.user_id, i.requester_id, i.request_id, i.coin_category, i.coin_count, i.allow_lower_categories, i.key_ids
  FROM item i${record}
),
taken AS (
  DELETE FROM coin_stock s
  USING (SELECT v.user_id${category('v')}, unnest(v.locations) AS location FROM ${served} v LIMIT (SELECT 1000000)) v
  WHERE ${at} AND s.user_id = ${user('v')}
)
SELECT v.item::int, c.key_id, c.coin_category, c.public_key, c.signature, c.expire_time
FROM ${served} v
CROSS JOIN unnest(v.key_ids) WITH ORDINALITY AS k (key_id, position)
CROSS JOIN LATERAL (
  SELECT c.key_id, c.coin_category, c.public_key, c.signature, c.expire_time
  FROM coin c
  WHERE c.user_id = ${user('v')} AND c.key_id = k.key_id
  OFFSET 0
) c
ORDER BY v.item, k.position`;
}
