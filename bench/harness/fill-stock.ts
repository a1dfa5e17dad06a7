import type { Client } from 'pg';
import { COIN_CATEGORIES, type CoinCategorySpec } from '../../gen/aqm/coin/v1/coin_categories';
import { UNNAMED_DEVICE } from '../../services/coin/coin';

/** The maximum number of users per statement, which keeps each transaction to a few seconds. */
const USERS_AT_ONCE = 50_000;
const TABLES = ['coin', 'coin_stock', 'coin_fetch', 'coin_device'];

/** SQL for the id of the named device number `d` of the user `u`: a hash of both. */
const DEVICE_ID = "md5(u || ' ' || d)::uuid";

/**
 * Adds coins as uploads leave them, but generates them inside PostgreSQL. A device's new coins come after the existing
 * ones. All bytes of a key are equal; the columns are not compressed (STORAGE EXTERNAL).
 * @param devices the number of named devices of each user, which get `perUser` coins each. 0: the unnamed device
 */
export async function stockUp(
  client: Client,
  users: readonly string[],
  coins: readonly { readonly spec: CoinCategorySpec; readonly perUser: number }[],
  devices = 0,
): Promise<void> {
  await addDevices(client, users, devices);
  // Without named devices the columns have their defaults, as before there were devices: see the bench "versions".
  const [column, value] = devices === 0 ? ['', ''] : [', device_id', `, ${DEVICE_ID}`];
  for (const { spec, perUser } of coins) {
    if (perUser === 0) continue;
    // One upload batch per position in the order: upload_order is batch * 128 + position in the batch.
    const { rows } = await client.query<{ first: string }>(
      `SELECT setval('coin_upload_batch', nextval('coin_upload_batch') + $1) - $1 AS first`,
      [perUser],
    );
    for (let from = 0; from < users.length; from += USERS_AT_ONCE) {
      await client.query(
        `WITH added AS (
           INSERT INTO coin (user_id, key_id, upload_order, expire_time, coin_category, public_key, signature${column})
           SELECT u, gen_random_uuid(), ($6::bigint + n) * 128 + 1 + d, now() + interval '20 days', $2,
             decode(repeat('ab', $3), 'hex'), decode(repeat('cd', $4), 'hex')${value}
           FROM unnest($1::uuid[]) u, generate_series(least(1, $7::int), $7::int) d, generate_series(1, $5::int) n
           RETURNING user_id, coin_category, upload_order, key_id, expire_time${column}
         )
         INSERT INTO coin_stock (user_id, coin_category, upload_order, key_id, expire_time${column})
         SELECT user_id, coin_category, upload_order, key_id, expire_time${column} FROM added`,
        [
          users.slice(from, from + USERS_AT_ONCE),
          spec.category,
          spec.publicKeySize,
          spec.signatureSize,
          perUser,
          rows[0]?.first,
          devices,
        ],
      );
    }
  }
  await settle(client);
}

/** Adds the devices of users: the unnamed one if `devices` is 0. */
async function addDevices(client: Client, users: readonly string[], devices: number): Promise<void> {
  if (!(await tablesOf(client)).includes('coin_device')) return;
  await client.query(
    `INSERT INTO coin_device (user_id, device_id, last_upload_time)
     SELECT u, CASE WHEN d = 0 THEN '${UNNAMED_DEVICE}' ELSE ${DEVICE_ID} END, now()
     FROM unnest($1::uuid[]) u, generate_series(least(1, $2::int), $2::int) d
     ON CONFLICT DO NOTHING`,
    [users, devices],
  );
}

/** Returns the names of the coin tables. An older version, which the bench "versions" may compare with, has fewer. */
async function tablesOf(client: Client): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    'SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NOT NULL',
    [TABLES],
  );
  return rows.map(({ name }) => name);
}

/** Vacuums, analyses and runs a checkpoint, so that a measurement does not pay for earlier work. */
export async function settle(client: Client, others: readonly string[] = []): Promise<void> {
  for (const table of [...(await tablesOf(client)), ...others]) await client.query(`VACUUM ANALYZE ${table}`);
  await client.query('CHECKPOINT');
}

/**
 * Adds coins of mixed categories for new users. The category of each coin is random; `shares` gives the probabilities
 * in percent, in the order of COIN_CATEGORIES.
 */
export async function stockMixed(
  client: Client,
  users: readonly string[],
  perUser: number,
  shares: readonly number[],
): Promise<void> {
  const { rows } = await client.query<{ first: string }>(
    `SELECT setval('coin_upload_batch', nextval('coin_upload_batch') + $1) - $1 AS first`,
    [perUser],
  );
  await addDevices(client, users, 0);
  const upTo = shares.map((_, place) => shares.slice(0, place + 1).reduce((sum, share) => sum + share, 0));
  const all = upTo.at(-1) ?? 1;
  for (let from = 0; from < users.length; from += USERS_AT_ONCE) {
    await client.query(
      `WITH spec AS MATERIALIZED (
         SELECT category, from_share, to_share, decode(repeat('ab', key_size), 'hex') AS public_key,
           decode(repeat('cd', signature_size), 'hex') AS signature
         FROM unnest($3::smallint[], $4::int[], $5::int[], $6::float8[], $7::float8[])
           AS s (category, key_size, signature_size, from_share, to_share)
       ),
       added AS (
         INSERT INTO coin (user_id, key_id, upload_order, expire_time, coin_category, public_key, signature)
         SELECT c.u, gen_random_uuid(), ($8::bigint + c.n) * 128 + 1, now() + interval '20 days', s.category, s.public_key, s.signature
         FROM (SELECT u, n, random() AS place FROM unnest($1::uuid[]) u, generate_series(1, $2::int) n OFFSET 0) c
         JOIN spec s ON c.place >= s.from_share AND c.place < s.to_share
         RETURNING user_id, coin_category, upload_order, key_id, expire_time
       )
       INSERT INTO coin_stock (user_id, coin_category, upload_order, key_id, expire_time)
       SELECT user_id, coin_category, upload_order, key_id, expire_time FROM added`,
      [
        users.slice(from, from + USERS_AT_ONCE),
        perUser,
        COIN_CATEGORIES.map(({ category }) => category),
        COIN_CATEGORIES.map(({ publicKeySize }) => publicKeySize),
        COIN_CATEGORIES.map(({ signatureSize }) => signatureSize),
        upTo.map((_, place) => (upTo[place - 1] ?? 0) / all),
        upTo.map((share) => share / all),
        rows[0]?.first,
      ],
    );
  }
}
