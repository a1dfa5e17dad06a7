import { CompiledQuery } from 'kysely';
import type { CoinCategory } from '../../../../gen/aqm/coin/v1/coin';
import { HAND_OUT_MARGIN_S } from '../../coin';
import { booleans, integers, smallints, uuids } from '../../database/binary-arrays';
import { CURRENT_INCARNATION, guardOnOneNode } from '../../fence/guard';
import type { Targets } from './claim-item';

/** A fetch for the devices of one user, in the form that the statement needs. All ids are UUIDs in lower case. */
export interface DeviceItem {
  readonly requesterId: string;
  /** The user from whose stocks the coins are taken. */
  readonly userId: string;
  /** The devices that were asked for, in ascending order. Empty: all devices of the user. */
  readonly askedDeviceIds: readonly string[];
  /** The caller's own id, or a random one where the caller sent none. */
  readonly requestId: string;
  /** True if the caller chose the id, so that a repeat of this item may exist elsewhere. */
  readonly isRepeatable: boolean;
  readonly coinCategory: CoinCategory;
  /** The number of coins for each device, 0 to 20. */
  readonly count: number;
  readonly allowLowerCategories: boolean;
  /** The categories to take from, in order of preference. Empty: answer only from an earlier fetch. */
  readonly categories: readonly CoinCategory[];
}

/** An item, and the call that it belongs to. */
export interface DeviceClaim {
  readonly item: DeviceItem;
  /** Identifies the call among those of the statement. */
  readonly call: number;
  /** The number of coins that the call may still be answered with. */
  readonly room: number;
}

export interface ClaimDevicesOptions {
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
  /**
   * Returns the known starts of the queues of a user's devices (queue-starts.ts) as the text of a JSON object, by the
   * device id, a space and the number of the category.
   */
  readonly startsOf?: (item: DeviceItem) => string;
}

/** One device of an item's answer with one of its coins, or with none; or a verdict on an item that was not served. */
export interface DeviceRow {
  /** The index of the item, from 1. */
  item: number;
  /**
   * `coin`: a device, or one of its coins. `reused`: the request id belongs to another fetch. `too_large`: the call has
   * no room for the coins. `contended`: other transactions hold coins that this item may need. `recorded`: a record with
   * this request id exists that is not remembered any more, or was written at the same time. `unverified` (one row, for
   * no item): the database is not the verified one. With a verdict the statement took no coin for the item.
   */
  kind: 'coin' | 'reused' | 'too_large' | 'contended' | 'recorded' | 'unverified';
  /** The time at which an earlier statement handed the coins out, for a repeat. NULL if this statement did. */
  fetch_time: Date | null;
  /** NULL in some verdicts. */
  device_id: string | null;
  /** This and the following columns are NULL in a verdict, and for a device itself. */
  key_id: string | null;
  coin_category: CoinCategory | null;
  public_key: Buffer | null;
  signature: Buffer | null;
  expire_time: Date | null;
}

/**
 * Returns the claim for the devices of several users: it finds the devices of each user, takes the coins of each
 * device's queue, and records one answer for each item. Items with a verdict get nothing, and the caller tries them
 * again, alone. An item without a row is of a user without devices.
 *
 * - All items of a statement must be of different users, because a statement does not skip its own locks. So the user
 *   also identifies the item.
 * - A repeat within the grace is answered from coin_fetch, with the devices and the coins of then. It comes first in the
 *   count of a call's coins, so a repeated call never has too little room for what it was answered with. Later items
 *   have room for as many coins as their devices could get, whatever they get.
 * - An item is served only if each of its devices is settled: it got all coins asked for, or no coin that it may take is
 *   held by another transaction (claim-one.ts). So a short answer is true of the stock.
 * - A removed device has no coins that a claim could take: RemoveDevice waits for the claims that hold some.
 * - Coins are locked first and records are written in the order of their primary key, so two statements that meet wait
 *   in one direction only.
 * - Parameters stand in SELECTs of their own, LIMIT on the deletion and OFFSET 0 on lookups keep the plan one of index
 *   lookups, for the reasons given in claim-many-fast.ts. The starts are JSON, because a join with them would be
 *   planned for a number of rows that is not known.
 * - Rows are found by ctid and user. Distributed tables use the key.
 */
export function claimDevices(
  claims: readonly DeviceClaim[],
  options: ClaimDevicesOptions,
): { compile(): CompiledQuery<DeviceRow> } {
  const { incarnation, targets, graceSeconds, held, acceptShort, startsOf = () => '{}' } = options;
  const items = claims.map(({ item }) => item);
  const users = new Set(items.map(({ userId }) => userId));
  if (users.size < items.length) throw new RangeError('a statement was given two items of one user');
  if (targets === 'one' && users.size > 1) throw new RangeError('a statement for one user was given items of several');
  const values = [
    targets === 'one' ? items[0]?.userId : uuids(items, ({ userId }) => userId),
    integers(claims, ({ call }) => call),
    integers(claims, ({ room }) => room),
    uuids(items, ({ requesterId }) => requesterId),
    uuids(items, ({ requestId }) => requestId),
    smallints(items, ({ coinCategory }) => coinCategory),
    smallints(items, ({ count }) => count),
    booleans(items, ({ allowLowerCategories }) => allowLowerCategories),
    items.map(({ categories }) => `{${categories.join()}}`),
    items.map(({ askedDeviceIds }) => `{${askedDeviceIds.join()}}`),
    incarnation,
    graceSeconds,
    acceptShort,
    items.map(startsOf),
  ];
  return { compile: () => CompiledQuery.raw(TEXTS[targets][held], values) as CompiledQuery<DeviceRow> };
}

/** The parts in which the statement texts differ. */
interface Pieces {
  readonly guard: string;
  /** The lists of the items, from `user_id` or from the column after it. */
  readonly users: string;
  readonly columns: string;
  readonly user: (of: string) => string;
  /** The column that is kept of a locked row, and the condition by which the deletion finds that row. */
  readonly location: string;
  readonly at: string;
}

const SEVERAL: Pieces = {
  guard: `guard AS MATERIALIZED (
  SELECT ${CURRENT_INCARNATION} = $11::text AS verified
)`,
  users: '(SELECT $1::uuid[]), ',
  columns: 'user_id, ',
  user: (of) => `${of}.user_id`,
  location: 's.ctid',
  at: 's.ctid = v.location',
};

const ONE: Pieces = {
  guard: guardOnOneNode('$11'),
  users: '',
  columns: '',
  user: () => '$1::uuid',
  location: 's.upload_order',
  at: 's.device_id = v.device_id AND s.coin_category = v.category AND s.upload_order = v.location',
};

const LOCKS = { skip: 'FOR UPDATE SKIP LOCKED', wait: 'FOR UPDATE' };
const TEXTS = { several: textsFor(SEVERAL), one: textsFor(ONE) };

function textsFor(pieces: Pieces) {
  return { skip: textFor(pieces, LOCKS.skip), wait: textFor(pieces, LOCKS.wait) };
}

/**
 * Parameters: $1 users (or the user); for each item $2 call, $3 room of the call, $4 requester, $5 request id, $6 category,
 * $7 count and $8 fallback as asked, $9 the list of categories to take from, $10 the list of devices asked for; $11 the
 * verified incarnation; $12 the least grace in seconds; $13 accept short answers; $14 for each item the starts.
 */
function textFor({ guard, users, columns, user, location, at }: Pieces, lock: string): string {
  const queue = (selected: string) => `
        SELECT ${selected}
        FROM coin_stock s
        WHERE s.user_id = ${user('d')} AND s.device_id = d.device_id AND s.coin_category = c.category
          AND s.upload_order >= coalesce((d.starts ->> (d.device_id || ' ' || c.category))::bigint, 0)
          AND s.expire_time > now() + interval '${HAND_OUT_MARGIN_S} seconds'`;
  const located = `${location} AS location, s.key_id`;
  return `
WITH ${guard},
grace AS MATERIALIZED (
  SELECT greatest($12::int, max(seconds)) AS seconds FROM fetch_grace WHERE used_until > now()
),
item AS MATERIALIZED (
  SELECT i.item, i.call, i.room, ${user('i')} AS user_id, i.requester_id, i.request_id, i.coin_category, i.coin_count,
    i.allow_lower_categories, i.categories::smallint[] AS categories, i.asked::uuid[] AS asked, i.starts::jsonb AS starts,
    f.key_ids, f.device_ids, f.fetch_time, f.same,
    coalesce(sum(cardinality(f.key_ids)) FILTER (WHERE f.same) OVER (PARTITION BY i.call), 0) AS repeated,
    coalesce(sum(cardinality(f.key_ids)) FILTER (WHERE f.same) OVER (PARTITION BY i.call ORDER BY i.item), 0) <= i.room AS fits
  FROM unnest(
    ${users}(SELECT $2::int[]), (SELECT $3::int[]), (SELECT $4::uuid[]), (SELECT $5::uuid[]), (SELECT $6::smallint[]),
    (SELECT $7::smallint[]), (SELECT $8::boolean[]), (SELECT $9::text[]), (SELECT $10::text[]), (SELECT $14::text[])
  ) WITH ORDINALITY AS i (${columns}call, room, requester_id, request_id, coin_category, coin_count, allow_lower_categories,
    categories, asked, starts, item)
  LEFT JOIN LATERAL (
    SELECT f.key_ids, f.device_ids, f.fetch_time,
      f.device_id IS NULL AND f.asked_device_ids = i.asked::uuid[]
        AND (f.coin_category, f.coin_count, f.allow_lower_categories)
          = (i.coin_category, i.coin_count, i.allow_lower_categories) AS same
    FROM coin_fetch f
    WHERE f.user_id = ${user('i')} AND f.requester_id = i.requester_id AND f.request_id = i.request_id
      AND f.fetch_time > now() - make_interval(secs => (SELECT seconds FROM grace))
    OFFSET 0
  ) f ON true
  WHERE (SELECT verified FROM guard)
),
device AS MATERIALIZED (
  SELECT i.item, i.user_id, i.requester_id, i.request_id, i.coin_category, i.coin_count, i.allow_lower_categories,
    i.categories, i.asked, i.starts, d.device_id,
    i.coin_count = 0 OR i.repeated + sum(i.coin_count) OVER (PARTITION BY i.call ORDER BY i.item) <= i.room AS fits
  FROM item i
  CROSS JOIN LATERAL (
    SELECT d.device_id
    FROM coin_device d
    WHERE d.user_id = ${user('i')} AND d.remove_time IS NULL AND (i.asked = '{}' OR d.device_id = ANY (i.asked))
    OFFSET 0
  ) d
  WHERE i.fetch_time IS NULL AND i.categories <> '{}'
),
scanned AS MATERIALIZED (
  SELECT d.item, d.user_id, d.requester_id, d.request_id, d.coin_category, d.coin_count, d.allow_lower_categories, d.asked,
    d.device_id, d.fits, s.locations, s.categories, s.key_ids, coalesce(cardinality(s.key_ids), 0) AS found,
    CASE WHEN NOT d.fits OR $13::boolean OR cardinality(s.key_ids) = d.coin_count THEN true
    ELSE coalesce(cardinality(s.key_ids), 0) >= (
      SELECT count(*)
      FROM (
        SELECT
        FROM unnest(d.categories) AS c (category)
        CROSS JOIN LATERAL (${queue('')}
        LIMIT d.coin_count
        ) s
        LIMIT d.coin_count
      ) visible
    ) END AS settled
  FROM device d
  CROSS JOIN LATERAL (
    SELECT array_agg(s.location) AS locations, array_agg(s.category) AS categories, array_agg(s.key_id) AS key_ids
    FROM (
      SELECT s.location, c.category, s.key_id
      FROM unnest(d.categories) WITH ORDINALITY AS c (category, rank)
      CROSS JOIN LATERAL (${queue(located)}
        ORDER BY s.upload_order
        LIMIT d.coin_count
        ${lock}
      ) s
      LIMIT d.coin_count
    ) s
    WHERE d.fits
  ) s
),
picked AS MATERIALIZED (
  SELECT s.*, sum(s.found) OVER (PARTITION BY s.item) AS found_of_item,
    bool_and(s.settled) OVER (PARTITION BY s.item) AND s.fits AS served
  FROM scanned s
),
recorded AS (
  INSERT INTO coin_fetch
    (user_id, requester_id, request_id, coin_category, coin_count, allow_lower_categories, device_id, asked_device_ids,
      device_ids, key_ids)
  SELECT p.user_id, p.requester_id, p.request_id, p.coin_category, p.coin_count, p.allow_lower_categories, NULL, p.asked,
    array_agg(DISTINCT p.device_id ORDER BY p.device_id),
    array_agg(k.key_id ORDER BY p.device_id, k.position) FILTER (WHERE k.key_id IS NOT NULL)
  FROM picked p
  LEFT JOIN LATERAL unnest(p.key_ids) WITH ORDINALITY AS k (key_id, position) ON true
  WHERE p.served AND p.found_of_item > 0
  GROUP BY p.user_id, p.requester_id, p.request_id, p.coin_category, p.coin_count, p.allow_lower_categories, p.asked
  ORDER BY p.user_id, p.requester_id, p.request_id
  ON CONFLICT DO NOTHING
  RETURNING user_id
),
taken AS (
  DELETE FROM coin_stock s
  USING (
    SELECT p.user_id, p.device_id, unnest(p.categories) AS category, unnest(p.locations) AS location
    FROM picked p
    WHERE p.user_id IN (SELECT user_id FROM recorded)
    LIMIT (SELECT 1000000)
  ) v
  WHERE ${at} AND s.user_id = ${user('v')}
)
SELECT a.item::int, a.kind, a.fetch_time, coalesce(a.device_id, c.device_id) AS device_id,
  c.key_id, c.coin_category, c.public_key, c.signature, c.expire_time
FROM (
  SELECT p.item, p.kind, NULL::timestamptz AS fetch_time, p.user_id, p.device_id, k.key_id, k.position
  FROM (
    SELECT p.item, p.user_id, p.device_id, p.key_ids,
      CASE WHEN NOT p.fits THEN 'too_large' WHEN NOT p.served THEN 'contended'
        WHEN p.found_of_item > 0 AND p.user_id NOT IN (SELECT user_id FROM recorded) THEN 'recorded' ELSE 'coin' END AS kind
    FROM picked p
  ) p
  LEFT JOIN LATERAL unnest(p.key_ids) WITH ORDINALITY AS k (key_id, position) ON p.kind = 'coin'
  UNION ALL
  SELECT i.item, CASE WHEN NOT i.same THEN 'reused' WHEN NOT i.fits THEN 'too_large' ELSE 'coin' END, i.fetch_time, i.user_id,
    d.device_id, NULL, 0
  FROM item i
  CROSS JOIN LATERAL unnest(CASE WHEN i.same THEN i.device_ids ELSE ARRAY[NULL]::uuid[] END) AS d (device_id)
  WHERE i.fetch_time IS NOT NULL
  UNION ALL
  SELECT i.item, 'coin', i.fetch_time, i.user_id, NULL, k.key_id, k.position
  FROM item i
  CROSS JOIN LATERAL unnest(i.key_ids) WITH ORDINALITY AS k (key_id, position)
  WHERE i.same AND i.fits
  UNION ALL
  SELECT 0, 'unverified', NULL, NULL, NULL, NULL, 0 FROM guard WHERE NOT verified
) a
LEFT JOIN LATERAL (
  SELECT c.device_id, c.key_id, c.coin_category, c.public_key, c.signature, c.expire_time
  FROM coin c
  WHERE c.user_id = ${user('a')} AND c.key_id = a.key_id
  OFFSET 0
) c ON true
ORDER BY a.item, a.device_id, a.position`;
}
