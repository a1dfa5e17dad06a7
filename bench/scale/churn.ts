import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { chart } from '../harness/chart';
import type { BenchResult } from '../harness/command';
import { columns, type Latency, progress, verdict } from '../harness/numbers';
import { TestBed } from '../harness/test-bed';
import { Fetches, runAlternately } from './fetches';
import { Year } from './year';

const USERS = 200;
/** Coins added per user before the comparison, so that no user runs out within a block. */
const BRONZE_SPARE = 20;
/** A simulated day is shorter than the default interval of autovacuum, one minute. */
const POSTGRES = ['shared_buffers=1GB', 'max_wal_size=8GB', 'autovacuum_naptime=1s'];
const ENV = { AQM_LOG_LEVEL: 'error', AQM_FETCH_GRACE: '1' };
/** The day from which on the first coins are forgotten, and tables should not grow any more. */
const STEADY_FROM_DAY = 40;
const MEASURED_TIMES = 73;

export interface ChurnPlan {
  readonly days: number;
  readonly dayMs: number;
  /** The number of coins uploaded per day. */
  readonly daily: number;
  readonly blocks: number;
  readonly blockMs: number;
  /** Settings of the services. */
  readonly service: NodeJS.ProcessEnv;
}

interface Day {
  readonly day: number;
  readonly inStock: number;
  /** The number of coins handed out and remembered. */
  readonly spent: number;
  /** The bytes of each table and index. */
  readonly bytes: Readonly<Record<string, number>>;
}

/**
 * Simulates a year in fast motion and records the sizes of tables and indexes. Then it compares the latency of a fetch
 * with that of a fresh service that has as many coins.
 */
export async function churn(plan: ChurnPlan): Promise<BenchResult> {
  const env = { ...ENV, ...plan.service };
  const open = (targets: number) => TestBed.open({ postgresSettings: POSTGRES, env, targets, coinsPerTarget: 0 });
  const testBeds: TestBed[] = [];
  try {
    const aged = await open(USERS);
    testBeds.push(aged);
    const year = await Year.begin(aged, plan.dayMs);
    const every = Math.max(1, Math.round(plan.days / MEASURED_TIMES));
    const days: Day[] = [];
    const begin = performance.now();
    for (let day = 1; day <= plan.days; day += 1) {
      await year.day(plan.daily);
      if (day % every !== 0 && day !== plan.days) continue;
      days.push({ day, ...(await contents(aged)), bytes: await aged.sizes() });
      if (day % (10 * every) === 0) progress(`day ${day}: ${megabytes(days.at(-1)).toFixed(1)} MB`);
    }
    const dayMs = (performance.now() - begin) / plan.days;
    year.end();
    const fresh = await open(USERS);
    testBeds.push(fresh);
    await fresh.stock([{ spec: COIN_CATEGORIES[2], perUser: Math.round((days.at(-1)?.inStock ?? 0) / USERS) }]);
    const fetches = [];
    for (const testBed of [fresh, aged]) {
      await testBed.stock([{ spec: COIN_CATEGORIES[2], perUser: BRONZE_SPARE }]);
      fetches.push(await Fetches.of(testBed, testBed.targets));
    }
    const [one, other] = fetches as [Fetches, Fetches];
    await runAlternately(one, other, plan.blocks, plan.blockMs);
    one.close();
    other.close();
    const failures = { ...one.failures, ...other.failures };
    return resultOf(plan, { days, dayMs, totals: year.totals }, { aged: other.latency, fresh: one.latency, failures });
  } finally {
    for (const testBed of testBeds) await testBed.close();
  }
}

async function contents(testBed: TestBed): Promise<{ readonly inStock: number; readonly spent: number }> {
  const [row] = await testBed.query<{ coins: string; stock: string }>(
    'SELECT (SELECT count(*) FROM coin) AS coins, (SELECT count(*) FROM coin_stock) AS stock',
  );
  return { inStock: Number(row?.stock), spent: Number(row?.coins) - Number(row?.stock) };
}

function megabytes(day: Day | undefined): number {
  return Object.values(day?.bytes ?? {}).reduce((sum, size) => sum + size, 0) / 1e6;
}

interface Past {
  readonly days: readonly Day[];
  /** The average duration of a simulated day, in milliseconds. */
  readonly dayMs: number;
  readonly totals: object;
}

interface Comparison {
  readonly aged: Latency;
  readonly fresh: Latency;
  readonly failures: Readonly<Record<string, number>>;
}

function resultOf(plan: ChurnPlan, past: Past, compared: Comparison): BenchResult {
  const { days, dayMs, totals } = past;
  const parts = Object.keys(days.at(-1)?.bytes ?? {});
  const shown = days.filter(
    ({ day }, index) => index === days.length - 1 || day % (10 * Math.max(1, Math.round(plan.days / 100))) === 0,
  );
  const steady = days.filter(({ day }) => day >= Math.min(STEADY_FROM_DAY, plan.days / 2));
  const half = steady.length / 2;
  const maxMegabytes = (some: readonly Day[]) => Math.max(...some.map(megabytes));
  const growth = maxMegabytes(steady.slice(Math.floor(half))) / maxMegabytes(steady.slice(0, Math.ceil(half)));
  const ratio = (which: 'p50' | 'p99') => compared.aged[which] / compared.fresh[which];
  const failed = Object.values(compared.failures).reduce((sum, calls) => sum + calls, 0);
  return {
    name: 'churn',
    table: [
      columns(
        [
          ['day', 'in stock', 'spent', 'all, MB', ...parts],
          ...shown.map((of) => [
            of.day,
            of.inStock,
            of.spent,
            megabytes(of).toFixed(1),
            ...parts.map((part) => ((of.bytes[part] ?? 0) / 1e6).toFixed(1)),
          ]),
        ],
        17,
      ),
      `${JSON.stringify(totals)}; a day took ${dayMs.toFixed(0)} ms`,
      columns([
        ['afterwards', 'p50 ms', 'p99 ms'],
        ['aged service', compared.aged.p50.toFixed(2), compared.aged.p99.toFixed(2)],
        ['fresh service', compared.fresh.p50.toFixed(2), compared.fresh.p99.toFixed(2)],
      ]),
    ].join('\n'),
    json: {
      settings: { ...plan, users: USERS, postgres: POSTGRES, service: { ...ENV, ...plan.service } },
      dayMs,
      totals,
      days,
      compared,
    },
    svg: chart(
      { title: 'Tables (with TOAST) and indexes, in MB', x: 'day of the year' },
      parts.map((part) => ({
        name: part,
        points: days.map(({ day, bytes }) => [day, (bytes[part] ?? 0) / 1e6] as const),
      })),
    ),
    verdicts: [
      verdict(
        Math.max(ratio('p50'), ratio('p99')) <= 1.3,
        `after ${plan.days} days a fetch takes at most 1.3 times as long as on a fresh service: p50 ${ratio('p50').toFixed(2)}, p99 ${ratio('p99').toFixed(2)} times`,
      ),
      verdict(
        growth <= 1.1,
        `tables and indexes do not grow: the maximum of the second half is ${growth.toFixed(2)} times that of the first`,
      ),
      verdict(failed === 0, `every fetch was answered with a coin: ${failed} were not`),
    ],
  };
}
