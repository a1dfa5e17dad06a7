import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import { COIN_CATEGORIES, type CoinCategoryName } from '../../gen/aqm/coin/v1/coin_categories';
import { CURRENT_STAMP } from '../../services/coin/store/gate';
import { claimStatement } from './ours';
import { leanestClaim, PLAIN_TABLE, usualClaim } from './plain';

export interface Scenario {
  readonly name: string;
  readonly category: CoinCategoryName;
  /** Coins per fetch. */
  readonly count: number;
}

/** What is measured: one statement per fetch, named, so that it is parsed and planned once per connection. */
export type Arm = 'ours' | 'plain, usual' | 'plain, leanest';
export const ARMS: readonly Arm[] = ['ours', 'plain, usual', 'plain, leanest'];

const TARGETS = 500;

/** One arm's fetches per second in one round. */
export interface Round {
  readonly arm: Arm;
  readonly perSecond: number;
  /** Median of one fetch, in milliseconds. */
  readonly p50: number;
}

export interface Effort {
  readonly callers: number;
  readonly rounds: number;
  /** Of one arm. */
  readonly roundMs: number;
}

/** Fetches by several callers at once, the arms in turn, each on tables that hold the same coins. */
export async function measure(url: string, scenario: Scenario, effort: Effort): Promise<Round[]> {
  const spec = COIN_CATEGORIES.find(({ name }) => name === scenario.category) ?? COIN_CATEGORIES[0];
  const setUp = await connect(url);
  const users = Array.from({ length: TARGETS }, () => randomUUID());
  const rounds: Round[] = [];
  const callers = await Promise.all(Array.from({ length: effort.callers }, () => connect(url)));
  try {
    await setUp.query('TRUNCATE coin, coin_stock, coin_fetch');
    await setUp.query('DROP TABLE IF EXISTS plain_coin');
    await setUp.query(PLAIN_TABLE);
    for (let round = -1; round < effort.rounds; round++) {
      // Filled up and vacuumed before each round, so that no arm pays for another's garbage and none runs dry.
      await fill(setUp, users, spec, scenario.count);
      const {
        rows: [life],
      } = await setUp.query<{ stamp: string }>(`SELECT ${CURRENT_STAMP} AS stamp`);
      // The order changes, so that none always runs on what another left warm.
      const shift = (round + ARMS.length) % ARMS.length;
      for (const arm of [...ARMS.slice(shift), ...ARMS.slice(0, shift)]) {
        const result = await runArm(
          arm,
          callers,
          users,
          spec.category,
          scenario.count,
          effort.roundMs,
          life?.stamp ?? '',
        );
        // The first round only warms up.
        if (round >= 0) rounds.push(result);
      }
    }
  } finally {
    for (const client of [setUp, ...callers]) await client.end();
  }
  return rounds;
}

async function connect(url: string): Promise<Client> {
  const client = new Client({ connectionString: url });
  await client.connect();
  return client;
}

/** Enough for one round and more: both queues hold the same coins, and are as short for every arm. */
async function fill(
  client: Client,
  users: readonly string[],
  spec: (typeof COIN_CATEGORIES)[number],
  count: number,
): Promise<void> {
  const coinsPerUser = 80 * count;
  await client.query('TRUNCATE coin, coin_stock, coin_fetch, plain_coin');
  for (const half of [0, 1]) {
    // Two tables' worth for the two plain arms, which share one table: each takes from its own users.
    await client.query(
      `INSERT INTO plain_coin (user_id, key_id, coin_category, upload_order, expire_time, public_key, signature)
       SELECT u, gen_random_uuid(), $2, n, now() + interval '20 days', decode(repeat('ab', $3), 'hex'), decode(repeat('cd', $4), 'hex')
       FROM unnest($1::uuid[]) WITH ORDINALITY AS t (u, i), generate_series(1, $5::int) n
       WHERE i % 2 = $6
       ORDER BY n, u`,
      [users, spec.category, spec.publicKeySize, spec.signatureSize, coinsPerUser, half],
    );
  }
  await client.query(
    `INSERT INTO coin (user_id, key_id, upload_order, expire_time, coin_category, public_key, signature)
     SELECT user_id, key_id, upload_order, expire_time, coin_category, public_key, signature FROM plain_coin ORDER BY upload_order, user_id`,
  );
  await client.query(
    `INSERT INTO coin_stock (user_id, coin_category, upload_order, key_id, expire_time)
     SELECT user_id, coin_category, upload_order, key_id, expire_time FROM coin ORDER BY upload_order, user_id`,
  );
  // Fetches of the last hour, as there would be: the look-up of an earlier answer has something to look through.
  await client.query(
    `INSERT INTO coin_fetch (user_id, requester_id, request_id, coin_category, coin_count, allow_lower_categories, key_ids)
     SELECT u, gen_random_uuid(), gen_random_uuid(), $2, 1, false, ARRAY[gen_random_uuid()]
     FROM unnest($1::uuid[]) u, generate_series(1, 20)`,
    [users, spec.category],
  );
  for (const table of ['coin', 'coin_stock', 'coin_fetch', 'plain_coin']) await client.query(`VACUUM ANALYZE ${table}`);
  await client.query('CHECKPOINT');
}

async function runArm(
  arm: Arm,
  callers: readonly Client[],
  users: readonly string[],
  category: number,
  count: number,
  roundMs: number,
  stamp: string,
): Promise<Round> {
  // The plain arms share a table and each has half of its users; ours has half of them too.
  const mine = users.filter((_, index) => (arm === 'plain, usual' ? index % 2 === 1 : index % 2 === 0));
  const durations: number[] = [];
  const begin = performance.now();
  await Promise.all(
    callers.map(async (client, caller) => {
      const requester = randomUUID();
      for (let turn = caller; performance.now() - begin < roundMs; turn += callers.length) {
        const user = mine[turn % mine.length] ?? '';
        const start = performance.now();
        const { rows } = await client.query(statement(arm, user, requester, category, count, stamp));
        durations.push(performance.now() - start);
        if (rows.length !== count)
          throw new Error(`${arm}: ${rows.length} coins instead of ${count}; the stock was too small`);
      }
    }),
  );
  const seconds = (performance.now() - begin) / 1000;
  durations.sort((a, b) => a - b);
  return { arm, perSecond: durations.length / seconds, p50: durations[durations.length >> 1] ?? 0 };
}

function statement(arm: Arm, user: string, requester: string, category: number, count: number, stamp: string) {
  if (arm === 'plain, usual') return { name: arm, text: usualClaim(count), values: [user, category, requester] };
  if (arm === 'plain, leanest') return { name: arm, text: leanestClaim(count), values: [user, category] };
  return claimStatement(user, requester, category, count, stamp);
}
