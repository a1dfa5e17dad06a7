import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import type { CoinCategorySpec } from '../../gen/aqm/coin/v1/coin_categories';
import { CURRENT_INCARNATION } from '../../services/coin/fence/guard';
import { claimStatement } from './ours';
import { leanestClaim, PLAIN_TABLE, usualClaim } from './plain';

/** The coins that each fetch asks for. */
export interface Scenario {
  readonly name: string;
  readonly spec: CoinCategorySpec;
  /** Coins per fetch. */
  readonly count: number;
}

/** The measured statements. Each fetch is one named statement, which is parsed and planned once per connection. */
export const VARIANTS = ['ours', 'plain, usual', 'plain, leanest'] as const;
export type Variant = (typeof VARIANTS)[number];

const TARGETS = 500;
/** The number of rounds on the same stock. The first stock serves for warm-up rounds. */
export const ROUNDS_PER_FILL = 4;
/** Coins per user, in fetches; more than the rounds take from half of the users. */
const FETCHES_PER_USER = 80;

/** The speed of one round. */
export interface Speed {
  readonly perSecond: number;
  /** Median of one fetch, in milliseconds. */
  readonly p50: number;
}

/** The speed of one variant in one round. */
export interface Round extends Speed {
  readonly variant: Variant;
}

/** The size of a run. */
export interface Effort {
  readonly callers: number;
  readonly rounds: number;
  /** The duration of one round of one variant, in milliseconds. */
  readonly roundMs: number;
}

/**
 * Measures the statements with several concurrent callers. The variants alternate, on tables that hold the same coins.
 */
export async function measure(url: string, scenario: Scenario, effort: Effort): Promise<Round[]> {
  const setUp = await connect(url);
  const rounds: Round[] = [];
  const callers = await Promise.all(Array.from({ length: effort.callers }, () => connect(url)));
  const requester = randomUUID();
  try {
    const stock = await Stock.create(setUp, scenario);
    let incarnation = '';
    for (let round = -ROUNDS_PER_FILL; round < effort.rounds; round++) {
      if (round % ROUNDS_PER_FILL === 0) {
        await stock.empty();
        await stock.fill(FETCHES_PER_USER);
        const { rows } = await setUp.query<{ incarnation: string }>(`SELECT ${CURRENT_INCARNATION} AS incarnation`);
        incarnation = rows[0]?.incarnation ?? '';
      }
      // The order rotates, so that no variant always runs after the same one.
      const shift = (round + ROUNDS_PER_FILL) % VARIANTS.length;
      for (const variant of [...VARIANTS.slice(shift), ...VARIANTS.slice(0, shift)]) {
        const speed = await run(effort, stock.usersOf(variant), async (user, caller) => {
          const { spec, count } = scenario;
          const { rows } = await (callers[caller] ?? setUp).query(
            statement(variant, user, requester, spec.category, count, incarnation),
          );
          if (rows.length !== count) throw new Error(`${variant}: ${rows.length} coins instead of ${count}`);
        });
        if (round >= 0) rounds.push({ variant, ...speed });
      }
    }
  } finally {
    for (const client of [setUp, ...callers]) await client.end();
  }
  return rounds;
}

/** Runs one round of closed-loop load. */
export async function run(
  { callers, roundMs }: Effort,
  users: readonly string[],
  fetchOne: (user: string, caller: number) => Promise<void>,
): Promise<Speed> {
  const durations: number[] = [];
  const begin = performance.now();
  await Promise.all(
    Array.from({ length: callers }, async (_, caller) => {
      for (let fetch = caller; performance.now() - begin < roundMs; fetch += callers) {
        const start = performance.now();
        await fetchOne(users[fetch % users.length] ?? '', caller);
        durations.push(performance.now() - start);
      }
    }),
  );
  const seconds = (performance.now() - begin) / 1000;
  durations.sort((a, b) => a - b);
  return { perSecond: durations.length / seconds, p50: durations[durations.length >> 1] ?? 0 };
}

export async function connect(url: string): Promise<Client> {
  const client = new Client({ connectionString: url });
  await client.connect();
  return client;
}

/**
 * Holds the same coins in our tables and in the plain one. Before every few rounds it is filled with new coins of new
 * users and vacuumed, so that no variant pays for dead rows of another and none runs out of coins.
 */
export class Stock {
  #users: string[] = [];

  private constructor(
    private readonly client: Client,
    private readonly scenario: Scenario,
  ) {}

  static async create(client: Client, scenario: Scenario): Promise<Stock> {
    await client.query('DROP TABLE IF EXISTS plain_coin');
    await client.query(PLAIN_TABLE);
    return new Stock(client, scenario);
  }

  /**
   * Returns the users of a variant. The plain variants share a table and have half of its users each; ours has one
   * half, too.
   */
  usersOf(variant: Variant): string[] {
    return this.#users.filter((_, index) => (variant === 'plain, usual' ? index % 2 === 1 : index % 2 === 0));
  }

  /**
   * Empties all tables. Must not be called while a service runs, because its fence would miss coins that it handed out.
   */
  async empty(): Promise<void> {
    await this.client.query('TRUNCATE coin, coin_stock, coin_fetch, plain_coin');
  }

  async fill(fetchesPerUser: number): Promise<void> {
    this.#users = Array.from({ length: TARGETS }, () => randomUUID());
    await fill(this.client, this.#users, this.scenario, fetchesPerUser);
  }
}

async function fill(
  client: Client,
  users: readonly string[],
  { spec, count }: Scenario,
  fetchesPerUser: number,
): Promise<void> {
  for (const half of [0, 1]) {
    // The two plain variants share this table; each takes from its own half of the users.
    await client.query(
      `INSERT INTO plain_coin (user_id, key_id, coin_category, upload_order, expire_time, public_key, signature)
       SELECT u, gen_random_uuid(), $2, n, now() + interval '20 days', decode(repeat('ab', $3), 'hex'), decode(repeat('cd', $4), 'hex')
       FROM unnest($1::uuid[]) WITH ORDINALITY AS t (u, i), generate_series(1, $5::int) n
       WHERE i % 2 = $6
       ORDER BY n, u`,
      [users, spec.category, spec.publicKeySize, spec.signatureSize, fetchesPerUser * count, half],
    );
  }
  await client.query(
    `INSERT INTO coin (user_id, key_id, upload_order, expire_time, coin_category, public_key, signature)
     SELECT user_id, key_id, upload_order, expire_time, coin_category, public_key, signature
     FROM plain_coin WHERE user_id = ANY ($1) ORDER BY upload_order, user_id`,
    [users],
  );
  await client.query(
    `INSERT INTO coin_stock (user_id, coin_category, upload_order, key_id, expire_time)
     SELECT user_id, coin_category, upload_order, key_id, expire_time
     FROM coin WHERE user_id = ANY ($1) ORDER BY upload_order, user_id`,
    [users],
  );
  // Records of the last hour's fetches, as in production, for the look-up of an earlier answer.
  await client.query(
    `INSERT INTO coin_fetch (user_id, requester_id, request_id, coin_category, coin_count, allow_lower_categories, key_ids)
     SELECT u, gen_random_uuid(), gen_random_uuid(), $2, 1, false, ARRAY[gen_random_uuid()]
     FROM unnest($1::uuid[]) u, generate_series(1, 20)`,
    [users, spec.category],
  );
  for (const table of ['coin', 'coin_stock', 'coin_fetch', 'plain_coin']) await client.query(`VACUUM ANALYZE ${table}`);
  await client.query('CHECKPOINT');
}

function statement(
  variant: Variant,
  user: string,
  requester: string,
  category: number,
  count: number,
  incarnation: string,
) {
  if (variant === 'plain, usual')
    return { name: variant, text: usualClaim(count), values: [user, category, requester] };
  if (variant === 'plain, leanest') return { name: variant, text: leanestClaim(count), values: [user, category] };
  return claimStatement(user, requester, category, count, incarnation);
}
