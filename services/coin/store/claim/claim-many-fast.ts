import { CompiledQuery } from 'kysely';
import { HAND_OUT_MARGIN_S } from '../../coin';
import { booleans, integers, smallints, uuids } from '../../database/binary-arrays';
import { CURRENT_INCARNATION, guardOnOneNode } from '../../fence/guard';
import type { Pending } from './answer';
import type { ClaimOptions } from './claim-many';
import type { FastClaimRow } from './claim-one-fast';

/** A coin that was handed out for one of the items. */
export interface ManyFastRow extends FastClaimRow {
  /** Index of the item, from 1. */
  item: number;
}

export type { Targets } from './claim-many';

/**
 * The claim of several items, of any users and by any requesters, when nothing is special about them: what claim-one-fast.ts is for
 * one. An item is handed out whole, of the first of its categories, or not at all, and then has no row; claim-many.ts is asked
 * for it. So a fallback that is not needed costs nothing, and one that is needed a statement more.
 *
 * - Items of one user and category share one scan of the queue, in upload order, and get their parts of it in their own order: a
 *   statement does not skip its own locks, so that two scans would pick the same coins. array_agg keeps the order of the scan
 *   (PostgreSQL, "Aggregate Functions": sorted input of a subquery), and an ORDER BY of its own would sort it once more.
 * - Records are made in the order of their primary key, and nobody waits for a coin: two statements that meet wait in one
 *   direction only. Where there is a record of the same id, also of an item before, nothing is deleted for the item.
 * - What was recorded is the answer, and its coins are a key to the item: items share none.
 * - Where nobody chose an id, no record can meet another: all are made, in any order, and what was picked is the answer. That saves a
 *   tenth of PostgreSQL's time.
 * - The parameters stand in a SELECT of their own, so that PostgreSQL cannot see how many items there are: it would find the plan
 *   for just these better than the one for any, and plan anew at every call.
 * - LIMIT on what is deleted lets it expect few rows; else a plan that was made when coin_stock was small reads all of it.
 * - By ctid and user: where the tables are partitioned by user_id a ctid is not unique. Where they are distributed: by the key.
 */
export function claimManyFast(
  items: readonly Omit<Pending, 'answer'>[],
  options: Pick<ClaimOptions, 'incarnation' | 'targets'>,
): { compile(): CompiledQuery<ManyFastRow> } {
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
  const queues = [...scans.values()];
  if (options.targets === 'one' && queues.some(({ userId }) => userId !== queues[0]?.userId)) {
    throw new RangeError('a statement for one target was given several');
  }
  const values = [
    options.targets === 'one' ? queues[0]?.userId : uuids(queues, ({ userId }) => userId),
    smallints(queues, ({ coinCategory }) => coinCategory),
    integers(queues, ({ wanted }) => wanted),
    integers(parts, ({ scan }) => scan),
    integers(parts, ({ upto }) => upto),
    uuids(items, ({ requesterId }) => requesterId),
    uuids(items, ({ requestId }) => requestId),
    smallints(items, ({ coinCategory }) => coinCategory),
    smallints(items, ({ count }) => count),
    booleans(items, ({ allowLowerCategories }) => allowLowerCategories),
    options.incarnation,
  ];
  const text = TEXTS[options.targets][items.some(({ repeatable }) => repeatable) ? 'chosen' : 'random'];
  return { compile: () => CompiledQuery.raw(text, values) as CompiledQuery<ManyFastRow> };
}

interface Scan {
  readonly number: number;
  readonly userId: string;
  readonly coinCategory: number;
  wanted: number;
}

/** Pieces of the text. */
interface Pieces {
  readonly gate: string;
  readonly verified: string;
  readonly queues: string;
  readonly user: (of: string) => string;
  /** What is kept of a row that was locked, and how the row is found by it. */
  readonly place: string;
  readonly at: string;
  /** The category of the queue, on its way from one step to the next. */
  readonly queue: (of: string) => string;
}

const TEXTS = {
  several: textsFor({
    gate: '',
    verified: `${CURRENT_INCARNATION} = $11::text`,
    place: 's.ctid',
    at: 's.ctid = v.place',
    queue: () => '',
    queues:
      'unnest((SELECT $1::uuid[]), (SELECT $2::smallint[]), (SELECT $3::int[])) WITH ORDINALITY AS q (user_id, queue, wanted, scan)',
    user: (of: string) => `${of}.user_id`,
  }),
  one: textsFor({
    gate: `${guardOnOneNode('$11')},
`,
    verified: '(SELECT verified FROM gate)',
    place: 's.upload_order',
    at: 's.coin_category = v.queue AND s.upload_order = v.place',
    queue: (of: string) => `, ${of}.queue`,
    queues: 'unnest((SELECT $2::smallint[]), (SELECT $3::int[])) WITH ORDINALITY AS q (queue, wanted, scan)',
    user: () => '$1::uuid',
  }),
};

/** By whether any request id was chosen by its caller, or all are the random ones of the service. */
function textsFor(pieces: Pieces): { readonly chosen: string; readonly random: string } {
  const { queue } = pieces;
  const onlyNew = {
    record: `
  ORDER BY i.user_id, i.requester_id, i.request_id, i.item
  ON CONFLICT DO NOTHING
  RETURNING user_id, key_ids
),
served AS MATERIALIZED (
  SELECT i.item, i.user_id${queue('i')}, i.places, i.key_ids
  FROM recorded r
  JOIN item i ON i.user_id = r.user_id AND i.key_ids = r.key_ids`,
    served: 'served',
  };
  return { chosen: textFor(pieces, onlyNew), random: textFor(pieces, { record: '', served: 'item' }) };
}

/**
 * $1 users and $2 categories of the scans, $3 how many coins of each; of the items: $4 scan, $5 up to which of its coins, $6 requester,
 * $7 request id, $8 category, $9 count and $10 fallback as asked; $11 the verified stamp.
 */
function textFor(
  { gate, verified, queues, user, place, at, queue }: Pieces,
  { record, served }: { readonly record: string; readonly served: string },
): string {
  return `
WITH ${gate}scan AS MATERIALIZED (
  SELECT q.scan, ${user('q')} AS user_id${queue('q')}, p.places, p.key_ids
  FROM ${queues}
  CROSS JOIN LATERAL (
    SELECT array_agg(s.place) AS places, array_agg(s.key_id) AS key_ids
    FROM (
      SELECT ${place} AS place, s.key_id
      FROM coin_stock s
      WHERE s.user_id = ${user('q')} AND s.coin_category = q.queue
        AND s.expire_time > now() + interval '${HAND_OUT_MARGIN_S} seconds'
        AND ${verified}
      ORDER BY s.upload_order
      LIMIT q.wanted
      FOR UPDATE SKIP LOCKED
    ) s
  ) p
),
item AS MATERIALIZED (
  SELECT i.item, s.user_id${queue('s')}, i.requester_id, i.request_id, i.coin_category, i.coin_count, i.allow_lower_categories,
    s.places[i.upto - i.coin_count + 1 : i.upto] AS places, s.key_ids[i.upto - i.coin_count + 1 : i.upto] AS key_ids
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
  USING (SELECT v.user_id${queue('v')}, unnest(v.places) AS place FROM ${served} v LIMIT (SELECT 1000000)) v
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
