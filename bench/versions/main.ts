import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { COIN_CATEGORIES, type CoinCategorySpec } from '../../gen/aqm/coin/v1/coin_categories';
import { fetchByGhz, IN_FLIGHT, leadIn, POSTGRES } from '../fetch/load';
import { type BenchResult, runCommand } from '../harness/command';
import { columns, median, positive, progress, verdict } from '../harness/numbers';
import { TestBed } from '../harness/test-bed';
import { MixedCallers } from '../mixed/mixed-callers';

const USAGE = `Usage: npm run bench -- versions --other FOLDER [--rounds 5] [--seconds 4] [--targets 1000]
                                 [--tier BRONZE] [--out docs/performance]

  Measures fetches of one coin with ${IN_FLIGHT} calls in flight, the same one after the other, and a mix of
  all calls with 64 in flight. Compares the service of this checkout with that of another checkout,
  which must be built (FOLDER has dist/), in alternating rounds. Each round starts new processes,
  because one process of a program is faster than another one by up to a tenth, each on a
  PostgreSQL of its own with the same settings. Ratios are medians over the rounds of "this" to
  "other". Exit code 1: this version makes less than 0.98 of the other's fetches, or an idle call
  takes more than 1.05 times as long.`;

const VERSIONS = ['this', 'other'] as const;
type Version = (typeof VERSIONS)[number];

const MIXED_IN_FLIGHT = 64;
const MIXED_USERS = 100;
/** Coins of each category (GOLD, SILVER, BRONZE) per target before a mixed round, so that most fetches fall back. */
const MIXED_STOCK = [5, 20, 60] as const;
/** An upper bound of fetches per second, for the stock of a round. */
const MAX_PER_SECOND = 20_000;

interface Round {
  readonly perSecond: number;
  readonly p99: number;
  /** Median latency of a single call in flight, in milliseconds. */
  readonly idleP50: number;
  readonly mixedPerSecond: number;
}

runCommand(
  USAGE,
  { other: '', rounds: '5', seconds: '4', targets: '1000', tier: 'BRONZE' },
  async (options): Promise<BenchResult> => {
    if (options.other === '') throw new Error('--other must name a folder with a built checkout');
    const [rounds, seconds] = [positive('rounds', options.rounds), positive('seconds', options.seconds)];
    const targets = positive('targets', options.targets);
    const spec = COIN_CATEGORIES.find(({ name }) => name === options.tier.toUpperCase());
    if (!spec) throw new Error(`--tier must be one of ${COIN_CATEGORIES.map(({ name }) => name).join(', ')}`);
    const env = { AQM_LOG_LEVEL: 'error', AQM_MAX_WAIT_MS: '10000' };
    const programs = { this: undefined, other: join(options.other, 'dist/services/coin/aqm.js') };
    const results: Record<Version, Round[]> = { this: [], other: [] };
    for (let round = 1; round <= rounds; round += 1) {
      for (const version of round % 2 === 0 ? VERSIONS : [...VERSIONS].reverse()) {
        const program = programs[version];
        const testBed = await TestBed.open({ postgresSettings: POSTGRES, env, targets, coinsPerTarget: 0, program });
        const result = await runRound(testBed, spec, seconds).finally(() => testBed.close());
        const { perSecond, idleP50, mixedPerSecond } = result;
        progress(
          `round ${round}, ${version}: ${perSecond.toFixed(0)} fetches/s, idle ${idleP50.toFixed(2)} ms, mixed ${mixedPerSecond.toFixed(0)} calls/s`,
        );
        results[version].push(result);
      }
    }
    return resultOf({ rounds, seconds, targets, tier: spec.name, postgres: POSTGRES }, results);
  },
);

async function runRound(testBed: TestBed, spec: CoinCategorySpec, seconds: number): Promise<Round> {
  const { targets, service } = testBed;
  const perTarget = Math.ceil((MAX_PER_SECOND * (seconds + 1)) / targets.length);
  await testBed.stock([{ spec, perUser: Math.max(0, perTarget - (await testBed.fewest())) }]);
  await testBed.query('CHECKPOINT');
  const [token = ''] = await testBed.tokens(1);
  const load = { address: service.address, token, targets, category: spec.category, connections: 4, seconds };
  await leadIn(load);
  const { calls, latency, seconds: took } = await fetchByGhz(load);
  const idle = await fetchByGhz({ ...load, concurrency: 1, connections: 1, seconds: seconds / 2 });
  return {
    perSecond: calls / took,
    p99: latency.p99,
    idleP50: idle.latency.p50,
    mixedPerSecond: await mixedCallsPerSecond(testBed, seconds),
  };
}

async function mixedCallsPerSecond(testBed: TestBed, seconds: number): Promise<number> {
  // New users for each round: every round begins with the same stock.
  const targets = testBed.targets.map(() => randomUUID());
  await testBed.stock(
    COIN_CATEGORIES.map((spec, index) => ({ spec, perUser: MIXED_STOCK[index] ?? 0 })),
    targets,
  );
  const ids = targets.slice(0, MIXED_USERS);
  const users = await Promise.all(ids.map(async (id) => ({ id, token: await testBed.token(id) })));
  const callers = new MixedCallers(testBed.service.address, users, targets);
  let answered = 0;
  const begin = performance.now();
  const caller = async (): Promise<void> => {
    while (performance.now() - begin < 1000 * seconds) {
      if ((await callers.call()).failure === undefined) answered += 1;
    }
  };
  await Promise.all(Array.from({ length: MIXED_IN_FLIGHT }, caller));
  const took = (performance.now() - begin) / 1000;
  callers.close();
  return answered / took;
}

function resultOf(settings: object, rounds: Readonly<Record<Version, readonly Round[]>>): BenchResult {
  const of = (version: Version, field: keyof Round) => median(rounds[version].map((round) => round[field]));
  const ratio = (field: keyof Round) =>
    median(rounds.this.map((round, index) => round[field] / (rounds.other[index]?.[field] ?? Number.NaN)));
  const row = (name: string, field: keyof Round, digits: number) => [
    name,
    of('this', field).toFixed(digits),
    of('other', field).toFixed(digits),
    ratio(field).toFixed(3),
  ];
  const [fetches, idle] = [ratio('perSecond'), ratio('idleP50')];
  return {
    name: 'versions',
    table: columns([
      ['', 'this', 'other', 'ratio'],
      row(`fetches/s, ${IN_FLIGHT} in flight`, 'perSecond', 0),
      row('p99 of these, ms', 'p99', 1),
      row('p50 of a single call, ms', 'idleP50', 2),
      row(`mixed calls/s, ${MIXED_IN_FLIGHT} in flight`, 'mixedPerSecond', 0),
    ]),
    json: { settings, rounds },
    verdicts: [
      verdict(fetches >= 0.98, `at least 0.98 of the other version's fetches: ${fetches.toFixed(3)}`),
      verdict(idle <= 1.05, `an idle call takes at most 1.05 times as long: ${idle.toFixed(3)}`),
    ],
  };
}
