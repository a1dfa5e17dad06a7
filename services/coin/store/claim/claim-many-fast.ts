import { CompiledQuery } from 'kysely';
import { DatabaseError } from 'pg';
import type { CoinCategory } from '../../../../gen/aqm/coin/v1/coin';
import { HAND_OUT_MARGIN_S } from '../../coin';
import { bigints, booleans, integers, smallints, uuids } from '../../database/binary-arrays';
import { CURRENT_INCARNATION, guardOnOneNode } from '../../fence/guard';
import type { ClaimRow } from './answer';
import { type ClaimItem, type StartOf, stockOf, type Targets } from './claim-item';

/**
 * Returns the fast claim of several items, of any users and by any requesters: for a batch what
 * claim-one-fast.ts is for one item. Each item is served completely from its categories in their
 * order, or not at all. An item that is not served has no row, and the caller falls back to
 * claim-one.ts for it.
 *
 * - Items of one user's device and the same categories share one scan, by category and upload order,
 *   and divide it in their own order: a statement does not skip its own locks, so two scans would pick
 *   the same coins. For the same reason a batch holds, of one device, either items of one category
 *   each or items of the same list (`mayShareBatch`). array_agg keeps the order of the scan
 *   (PostgreSQL, "Aggregate Functions": sorted input from a subquery); an ORDER BY of its own would
 *   sort again.
 * - Batches without fallback have a text of their own, which does not unnest lists.
 * - On distributed tables an item is served from the first of its categories only, because rows
 *   are found there by the category of their scan.
 * - Records are written in the order of their primary key, and the statement never waits for a
 *   coin, so two statements that meet wait in one direction only. If a record of the same id exists,
 *   nothing is deleted for the item.
 * - The coins that were picked for such a repeat stay in stock. If later items of its scan got
 *   younger ones, the statement fails (`isOutOfOrder`) and changes nothing: a call that begins after
 *   their answers would get the older coins. The caller then leaves the repeats out
 *   (find-repeats.ts). They are not looked up in every batch, because a plan for that which was made
 *   while coin_fetch was small would read all of it for each item (docs/adr/0025-order-of-claims.md).
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
  options: { readonly incarnation: string; readonly targets: Targets; readonly startOf?: StartOf },
): { compile(): CompiledQuery<ClaimRow> } {
  const isOneUser = options.targets === 'one';
  const scans = new Map<string, Scan>();
  const parts = items.map((item) => {
    const categories = isOneUser ? item.categories.slice(0, 1) : item.categories;
    const name = `${stockOf(item)} ${categories.join()}`;
    let scan = scans.get(name);
    if (!scan) {
      scan = { number: scans.size + 1, userId: item.userId, deviceId: item.deviceId, categories, wanted: 0 };
      scans.set(name, scan);
    }
    scan.wanted += item.count;
    return { scan: scan.number, upto: scan.wanted };
  });
  const distinct = [...scans.values()];
  if (isOneUser && distinct.some(({ userId }) => userId !== distinct[0]?.userId)) {
    throw new RangeError('a statement for one user was given items of several');
  }
  const hasFallback = distinct.some(({ categories }) => categories.length > 1);
  const startOf = options.startOf ?? (() => 0n);
  const values = [
    isOneUser ? distinct[0]?.userId : uuids(distinct, ({ userId }) => userId),
    hasFallback
      ? distinct.map(({ categories }) => `{${categories.join()}}`)
      : smallints(distinct, ({ categories }) => categories[0] ?? 0),
    integers(distinct, ({ wanted }) => wanted),
    integers(parts, ({ scan }) => scan),
    integers(parts, ({ upto }) => upto),
    uuids(items, ({ requesterId }) => requesterId),
    uuids(items, ({ requestId }) => requestId),
    smallints(items, ({ coinCategory }) => coinCategory),
    smallints(items, ({ count }) => count),
    booleans(items, ({ allowLowerCategories }) => allowLowerCategories),
    options.incarnation,
    hasFallback
      ? distinct.map((scan) => `{${scan.categories.map((each) => startOf(scan.userId, scan.deviceId, each)).join()}}`)
      : bigints(distinct, ({ userId, deviceId, categories }) => startOf(userId, deviceId, categories[0] ?? 0)),
    uuids(distinct, ({ deviceId }) => deviceId),
  ];
  const texts = isOneUser ? TEXTS.one : hasFallback ? TEXTS.fallback : TEXTS.several;
  const text = texts[items.some(({ isRepeatable }) => isRepeatable) ? 'chosen' : 'random'];
  return { compile: () => CompiledQuery.raw(text, values) as CompiledQuery<ClaimRow> };
}

/**
 * Returns true if items of one device with these lists of categories may be in one batch: their scans
 * must not meet over the same coins.
 */
export function mayShareBatch(one: readonly CoinCategory[], other: readonly CoinCategory[]): boolean {
  return one.length === other.length && (one.length === 1 || one.every((category, rank) => category === other[rank]));
}

/**
 * Returns true if a batch failed because it contained a repeat before other items of its scan. Nothing was handed out.
 */
export function isOutOfOrder(error: unknown): boolean {
  return error instanceof DatabaseError && error.code === INVALID_TEXT;
}

/** The SQLSTATE of a cast that fails (invalid_text_representation). No other cast of the statement can. */
const INVALID_TEXT = '22P02';
/** The text that PostgreSQL then writes to its log: invalid input syntax for type integer, and this. */
const OUT_OF_ORDER = 'a repeat shares this batch, which is sent again without it';

interface Scan {
  readonly number: number;
  readonly userId: string;
  readonly deviceId: string;
  readonly categories: readonly CoinCategory[];
  wanted: number;
}

/** The parts in which the statement texts differ. */
interface Pieces {
  readonly guard: string;
  readonly verified: string;
  readonly scans: string;
  /** Selects the coins of a scan, given the selection of those of one category and start. */
  readonly coins: (ofCategory: (from: string) => string) => string;
  readonly user: (of: string) => string;
  /**
   * The column that is kept of a locked row, and the condition by which the deletion finds that
   * row.
   */
  readonly location: string;
  readonly at: string;
  /** The category of the scan, by which the deletion finds its rows. Each step passes it to the next. */
  readonly category: (of: string) => string;
}

const SEVERAL = {
  guard: '',
  verified: `${CURRENT_INCARNATION} = $11::text`,
  location: 's.ctid',
  at: 's.ctid = v.location',
  category: () => '',
  user: (of: string) => `${of}.user_id`,
};

const TEXTS = {
  several: textsFor({
    ...SEVERAL,
    scans:
      'unnest((SELECT $1::uuid[]), (SELECT $2::smallint[]), (SELECT $3::int[]), (SELECT $12::bigint[]), (SELECT $13::uuid[])) WITH ORDINALITY AS q (user_id, category, wanted, start, device_id, scan)',
    coins: (ofCategory) => ofCategory('q'),
  }),
  fallback: textsFor({
    ...SEVERAL,
    scans:
      'unnest((SELECT $1::uuid[]), (SELECT $2::text[]), (SELECT $3::int[]), (SELECT $12::text[]), (SELECT $13::uuid[])) WITH ORDINALITY AS q (user_id, categories, wanted, starts, device_id, scan)',
    coins: (ofCategory) => `
      SELECT s.location, s.key_id
      FROM unnest(q.categories::smallint[], q.starts::bigint[]) WITH ORDINALITY AS c (category, start, rank)
      CROSS JOIN LATERAL (${ofCategory('c')}
      ) s
      LIMIT q.wanted`,
  }),
  one: textsFor({
    guard: `${guardOnOneNode('$11')},
`,
    verified: '(SELECT verified FROM guard)',
    location: 's.upload_order',
    at: 's.device_id = v.device_id AND s.coin_category = v.category AND s.upload_order = v.location',
    category: (of: string) => `, ${of}.category`,
    scans:
      'unnest((SELECT $2::smallint[]), (SELECT $3::int[]), (SELECT $12::bigint[]), (SELECT $13::uuid[])) WITH ORDINALITY AS q (category, wanted, start, device_id, scan)',
    coins: (ofCategory) => ofCategory('q'),
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
  SELECT i.item, i.user_id, i.device_id${category('i')}, i.locations, i.key_ids
  FROM recorded r
  JOIN item i ON i.user_id = r.user_id AND i.key_ids = r.key_ids`,
    served: 'served',
    inOrder: `
WHERE (
  SELECT CASE WHEN EXISTS (
    SELECT FROM item i
    LEFT JOIN served v ON v.item = i.item
    WHERE (SELECT count(*) FROM served) < (SELECT count(*) FROM item)
    GROUP BY i.scan
    HAVING min(i.item) FILTER (WHERE v.item IS NULL) < max(v.item)
  ) THEN '${OUT_OF_ORDER}' ELSE '1' END
)::int = 1`,
  };
  return { chosen: textFor(pieces, onlyNew), random: textFor(pieces, { record: '', served: 'item', inOrder: '' }) };
}

/**
 * Parameters: $1 users, $2 categories (or lists of them) and $3 coin counts of the scans; for each item $4 its scan,
 * $5 the last position in that scan, $6 requester, $7 request id, $8 category, $9 count and $10
 * fallback as asked; $11 the verified incarnation; $12 the starts of the scans' queues (or lists of
 * them); $13 the devices of the scans.
 */
function textFor(
  { guard, verified, scans, coins, user, location, at, category }: Pieces,
  { record, served, inOrder }: { readonly record: string; readonly served: string; readonly inOrder: string },
): string {
  const ofCategory = (from: string) => `
      SELECT ${location} AS location, s.key_id
      FROM coin_stock s
      WHERE s.user_id = ${user('q')} AND s.device_id = q.device_id AND s.coin_category = ${from}.category
        AND s.upload_order >= ${from}.start
        AND s.expire_time > now() + interval '${HAND_OUT_MARGIN_S} seconds'
        AND ${verified}
      ORDER BY s.upload_order
      LIMIT q.wanted
      FOR UPDATE SKIP LOCKED`;
  return `
WITH ${guard}scan AS MATERIALIZED (
  SELECT q.scan, ${user('q')} AS user_id, q.device_id${category('q')}, p.locations, p.key_ids
  FROM ${scans}
  CROSS JOIN LATERAL (
    SELECT array_agg(s.location) AS locations, array_agg(s.key_id) AS key_ids
    FROM (${coins(ofCategory)}
    ) s
  ) p
),
item AS MATERIALIZED (
  SELECT i.item, i.scan, s.user_id, s.device_id${category('s')}, i.requester_id, i.request_id, i.coin_category, i.coin_count, i.allow_lower_categories,
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
    (user_id, requester_id, request_id, coin_category, coin_count, allow_lower_categories, device_id, key_ids)
  SELECT i.user_id, i.requester_id, i.request_id, i.coin_category, i.coin_count, i.allow_lower_categories, i.device_id, i.key_ids
  FROM item i${record}
),
taken AS (
  DELETE FROM coin_stock s
  USING (SELECT v.user_id, v.device_id${category('v')}, unnest(v.locations) AS location FROM ${served} v LIMIT (SELECT 1000000)) v
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
) c${inOrder}
ORDER BY v.item, k.position`;
}
