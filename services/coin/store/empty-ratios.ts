import { randomBytes } from 'node:crypto';
import { sql } from 'kysely';
import { COIN_CATEGORIES } from '../../../gen/aqm/coin/v1/coin_categories';
import { HAND_OUT_MARGIN_S } from '../coin';
import { run } from '../database/connection';
import type { Database } from '../database/pool';

/** The number of users of a sample, with all of their devices. The ratio of many users with one device each is then right within 0.06, in 19 of 20 samples. */
const SAMPLE = 256;
/** All users are read if there are fewer than this. */
const MAX_ALL = 64;
/** The largest number of remembered coins of a user that are searched for one of a category. */
const MAX_SEARCHED = 200;

/**
 * Estimates the share of devices that have no coin of a category in stock, among those that published
 * coins of it that the database still remembers: 0 to 1, by name of the category. Removed devices do
 * not count. A category that no device of the sample published is left out. Takes a few index lookups
 * for each user and device of the sample, whatever the number of users and coins.
 * @throws the errors of `run`
 */
export async function readEmptyRatios(db: Database, names: readonly string[]): Promise<Map<string, number>> {
  const ids = await someIds(db);
  const categories = COIN_CATEGORIES.filter(({ name }) => names.includes(name));
  const rows = await run(
    db,
    sql<{ coin_category: number; stocked: number; empty: number }>`
WITH sample AS MATERIALIZED (
  SELECT DISTINCT (SELECT user_id FROM coin WHERE user_id >= id ORDER BY user_id LIMIT 1) AS user_id
  FROM unnest(${ids}::uuid[]) AS id
),
remembered AS MATERIALIZED (
  SELECT DISTINCT sample.user_id, c.device_id, c.coin_category
  FROM sample
  CROSS JOIN LATERAL (
    SELECT device_id, coin_category FROM coin WHERE coin.user_id = sample.user_id LIMIT ${MAX_SEARCHED}::int
  ) c
),
stock AS (
  SELECT d.user_id, d.device_id, category, EXISTS (
    SELECT FROM coin_stock s
    WHERE s.user_id = d.user_id AND s.device_id = d.device_id AND s.coin_category = category
      AND s.expire_time > now() + make_interval(secs => ${HAND_OUT_MARGIN_S})
  ) AS is_stocked
  FROM sample
  CROSS JOIN LATERAL (
    SELECT user_id, device_id FROM coin_device WHERE coin_device.user_id = sample.user_id AND remove_time IS NULL OFFSET 0
  ) d
  CROSS JOIN unnest(${categories.map(({ category }) => category)}::smallint[]) AS category
)
SELECT category AS coin_category, count(*) FILTER (WHERE is_stocked)::int AS stocked,
  count(*) FILTER (WHERE NOT is_stocked AND EXISTS (
    SELECT FROM remembered r
    WHERE r.user_id = stock.user_id AND r.device_id = stock.device_id AND r.coin_category = category
  ))::int AS empty
FROM stock
GROUP BY category`,
  );
  const ratios = new Map<string, number>();
  for (const { category, name } of categories) {
    const { stocked = 0, empty = 0 } = rows.find((row) => row.coin_category === category) ?? {};
    if (stocked + empty > 0) ratios.set(name, empty / (stocked + empty));
  }
  return ratios;
}

/** Returns the ids of all users if they are few, else random ids between those of the first and the last user. */
async function someIds(db: Database): Promise<readonly string[]> {
  const users = await run(
    db,
    sql<{ user_id: string }>`
WITH RECURSIVE walk AS (
  (SELECT user_id FROM coin ORDER BY user_id LIMIT 1)
  UNION ALL
  SELECT (SELECT coin.user_id FROM coin WHERE coin.user_id > walk.user_id ORDER BY coin.user_id LIMIT 1)
  FROM walk
  WHERE walk.user_id IS NOT NULL
)
SELECT user_id FROM walk WHERE user_id IS NOT NULL LIMIT ${MAX_ALL}::int`,
  );
  const [first] = users;
  if (!first || users.length < MAX_ALL) return users.map((user) => user.user_id);
  const [last = first] = await run(
    db,
    sql<{ user_id: string }>`SELECT user_id FROM coin ORDER BY user_id DESC LIMIT 1`,
  );
  return Array.from({ length: SAMPLE }, () => idBetween(first.user_id, last.user_id));
}

/** Returns a random id from `first` to `last`. */
function idBetween(first: string, last: string): string {
  const [low, high] = [numberOf(first), numberOf(last)];
  // 64 random bits more than an id has make the remainder uniform.
  const id = (low + (BigInt(`0x${randomBytes(24).toString('hex')}`) % (high - low + 1n)))
    .toString(16)
    .padStart(32, '0');
  return id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

const numberOf = (id: string) => BigInt(`0x${id.replaceAll('-', '')}`);
