import { chart } from '../harness/chart';
import type { BenchResult } from '../harness/command';
import { columns, type Latency, progress, verdict } from '../harness/numbers';
import { TestBed } from '../harness/test-bed';
import { Fetches, runAlternately } from './fetches';

/** The size with which the larger tables are compared. */
const SMALL = { coins: 10_000, users: 100 };
const FETCHED_USERS = 1000;
/** The coins fit in memory, and no checkpoint falls into a block. */
const POSTGRES = ['shared_buffers=4GB', 'max_wal_size=32GB', 'checkpoint_timeout=2h'];

export interface GrowthPlan {
  /** The number of coins in the largest table. */
  readonly coins: number;
  /** Shares of GOLD, SILVER, BRONZE, in percent. */
  readonly mix: readonly number[];
  readonly blocks: number;
  readonly blockMs: number;
  /** Settings of the services. */
  readonly service: NodeJS.ProcessEnv;
}

interface Size {
  readonly coins: number;
  readonly users: number;
  readonly bytes: number;
  readonly fillSeconds: number;
  readonly latency: Latency;
  /** Latency with 10,000 coins, in blocks interleaved with these. */
  readonly small: Latency;
  readonly failures: Readonly<Record<string, number>>;
}

/**
 * Measures p50 and p99 of a fetch while the table grows, at each size interleaved with a service that has 10,000 coins.
 */
export async function growth(plan: GrowthPlan): Promise<BenchResult> {
  const open = () =>
    TestBed.open({
      postgresSettings: POSTGRES,
      env: { AQM_LOG_LEVEL: 'error', ...plan.service },
      targets: 0,
      coinsPerTarget: 0,
    });
  const testBeds: TestBed[] = [];
  const sizes: Size[] = [];
  try {
    const small = await open();
    testBeds.push(small);
    const large = await open();
    testBeds.push(large);
    const smallUsers = await small.addUsers(SMALL.users, SMALL.coins / SMALL.users, plan.mix);
    const users: string[] = [];
    let stored = 0;
    for (const coins of sizesUpTo(plan.coins)) {
      const begin = performance.now();
      const added = usersOf(coins) - users.length;
      const perUser = Math.max(1, Math.round((coins - stored) / added));
      progress(`${coins.toLocaleString('en')} coins of ${usersOf(coins).toLocaleString('en')} users: storing …`);
      for (const user of await large.addUsers(added, perUser, plan.mix)) users.push(user);
      stored += added * perUser;
      await large.settle();
      const fillSeconds = (performance.now() - begin) / 1000;
      progress(`  ${fillSeconds.toFixed(0)} s; fetching from both alternately …`);
      // Random users from the whole table.
      const some = Array.from({ length: Math.min(FETCHED_USERS, users.length) }, () => Math.random() * users.length);
      const fetched = [...new Set(some.map(Math.floor))].map((index) => users[index] ?? '');
      const [one, other] = [await Fetches.of(small, smallUsers), await Fetches.of(large, fetched)];
      await runAlternately(one, other, plan.blocks, plan.blockMs);
      one.close();
      other.close();
      const bytes = Object.values(await large.sizes()).reduce((sum, size) => sum + size, 0);
      const failures = { ...one.failures, ...other.failures };
      const size = {
        coins: stored,
        users: users.length,
        bytes,
        fillSeconds,
        latency: other.latency,
        small: one.latency,
      };
      sizes.push({ ...size, failures });
      progress(`  p50 ${size.latency.p50.toFixed(2)} ms, ${size.small.p50.toFixed(2)} ms with 10,000`);
    }
  } finally {
    for (const testBed of testBeds) await testBed.close();
  }
  return resultOf(plan, sizes);
}

/** Returns 10,000, ten times as many, and so on up to `max`. */
function sizesUpTo(max: number): number[] {
  const sizes: number[] = [];
  for (let coins = SMALL.coins; coins < max; coins *= 10) sizes.push(coins);
  return [...sizes, max];
}

/** Returns the number of users: from 100 at 10,000 coins to a million at ten million coins. */
function usersOf(coins: number): number {
  return Math.round(SMALL.users * (coins / SMALL.coins) ** (4 / 3));
}

function resultOf(plan: GrowthPlan, sizes: readonly Size[]): BenchResult {
  const ratio = (size: Size | undefined, which: 'p50' | 'p99') => (size ? size.latency[which] / size.small[which] : 0);
  const row = (size: Size) => [
    size.coins.toLocaleString('en'),
    size.users.toLocaleString('en'),
    `${(size.bytes / 1e9).toFixed(2)} GB`,
    ...[size.latency.p50, size.latency.p99, size.small.p50, size.small.p99].map((ms) => ms.toFixed(2)),
    ratio(size, 'p50').toFixed(2),
    ratio(size, 'p99').toFixed(2),
  ];
  const last = sizes.at(-1);
  const failed = sizes.flatMap(({ failures }) => Object.values(failures)).reduce((sum, calls) => sum + calls, 0);
  const line = (name: string, of: (size: Size) => number, colour: number, isDashed = false) => ({
    name,
    colour,
    isDashed,
    points: sizes.map((size) => [size.coins, of(size)] as const),
  });
  return {
    name: 'scale',
    table: columns([
      ['coins', 'users', 'on disk', 'p50 ms', 'p99 ms', 'p50 10,000', 'p99 10,000', 'p50 ratio', 'p99 ratio'],
      ...sizes.map(row),
    ]),
    json: { settings: { ...plan, postgres: POSTGRES }, sizes },
    svg: chart(
      { title: 'Latency of a fetch in ms, interleaved with 10,000 coins', x: 'coins in stock', isLogX: true },
      [
        line('p50', ({ latency }) => latency.p50, 0),
        line('p99', ({ latency }) => latency.p99, 2),
        line('p50 with 10,000', ({ small }) => small.p50, 0, true),
        line('p99 with 10,000', ({ small }) => small.p99, 2, true),
      ],
    ),
    verdicts: [
      verdict(
        Math.max(ratio(last, 'p50'), ratio(last, 'p99')) <= 1.3,
        `with ${last?.coins.toLocaleString('en')} coins a fetch takes at most 1.3 times as long as with 10,000: p50 ${ratio(last, 'p50').toFixed(2)}, p99 ${ratio(last, 'p99').toFixed(2)} times`,
      ),
      verdict(failed === 0, `every fetch was answered with a coin: ${failed} were not`),
    ],
  };
}
