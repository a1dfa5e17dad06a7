import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { COIN_CATEGORIES, type CoinCategorySpec } from '../../gen/aqm/coin/v1/coin_categories';
import { type FetchLoad, fetchByGhz, IN_FLIGHT, LEAD_IN_S, leadIn, POSTGRES } from '../fetch/load';
import { type BenchResult, runCommand } from '../harness/command';
import { columns, median, positive, progress, verdict } from '../harness/numbers';
import { TestBed } from '../harness/test-bed';
import { MixedCallers } from '../mixed/mixed-callers';

const USAGE = `Usage: npm run bench -- versions --other FOLDER [--rounds 5] [--turns 8] [--seconds 0.5]
                                 [--targets 1000] [--tier BRONZE] [--out docs/performance]

  Measures fetches of one coin with ${IN_FLIGHT} calls in flight, the same one after the other, and a mix of
  all calls with 64 in flight. Compares the service of this checkout with that of another checkout,
  which must be built (FOLDER has dist/). Each round starts new processes, because one process of a
  program is faster than another one by up to a tenth, each on a PostgreSQL of its own with the same
  settings. Within a round the two take turns of --seconds each, so that other work on the machine
  disturbs both alike. Ratios are medians over the rounds of "this" to "other". Exit code 1: this
  version makes less than 0.98 of the other's fetches, or an idle call takes more than 1.05 times as
  long.`;

const VERSIONS = ['this', 'other'] as const;
type Version = (typeof VERSIONS)[number];

const MIXED_IN_FLIGHT = 64;
const MIXED_USERS = 100;
const MIXED_SECONDS = 2;
/** Coins of each category (GOLD, SILVER, BRONZE) per target before a mixed round, so that most fetches fall back. */
const MIXED_STOCK = [5, 20, 60] as const;
/** An upper bound of fetches per second, for the stock of a round. */
const MAX_PER_SECOND = 20_000;

/** The results of one version in one turn. Times are in milliseconds. */
interface Turn {
  readonly perSecond: number;
  readonly p99: number;
  /** The median latency of a single call in flight. */
  readonly idleP50: number;
}

/** The medians over the turns of one round. */
interface Round extends Turn {
  readonly mixedPerSecond: number;
}

runCommand(
  USAGE,
  { other: '', rounds: '5', turns: '8', seconds: '0.5', targets: '1000', tier: 'BRONZE' },
  async (options): Promise<BenchResult> => {
    if (options.other === '') throw new Error('--other must name a folder with a built checkout');
    const [rounds, turns] = [positive('rounds', options.rounds), positive('turns', options.turns)];
    const [seconds, targets] = [positive('seconds', options.seconds), positive('targets', options.targets)];
    const spec = COIN_CATEGORIES.find(({ name }) => name === options.tier.toUpperCase());
    if (!spec) throw new Error(`--tier must be one of ${COIN_CATEGORIES.map(({ name }) => name).join(', ')}`);
    const env = { AQM_LOG_LEVEL: 'error', AQM_MAX_WAIT_MS: '10000' };
    const programs = { this: undefined, other: join(options.other, 'dist/services/coin/aqm.js') };
    const open = (program?: string) =>
      TestBed.open({ postgresSettings: POSTGRES, env, targets, coinsPerTarget: 0, program });
    const results: Record<Version, Round[]> = { this: [], other: [] };
    for (let round = 1; round <= rounds; round += 1) {
      // Each version is started and warmed up first in every other round.
      const order = round % 2 === 0 ? VERSIONS : [...VERSIONS].reverse();
      const testBeds = new Map<Version, TestBed>();
      try {
        for (const version of order) testBeds.set(version, await open(programs[version]));
        const found = await runRound(testBeds, spec, turns, seconds);
        for (const version of order) {
          const { perSecond, idleP50, mixedPerSecond } = found[version];
          progress(
            `round ${round}, ${version}: ${perSecond.toFixed(0)} fetches/s, idle ${idleP50.toFixed(2)} ms, mixed ${mixedPerSecond.toFixed(0)} calls/s`,
          );
          results[version].push(found[version]);
        }
      } finally {
        for (const testBed of testBeds.values()) await testBed.close();
      }
    }
    return resultOf({ rounds, turns, seconds, targets, tier: spec.name, postgres: POSTGRES }, results);
  },
);

/** Returns the medians over the turns of each version. */
async function runRound(
  testBeds: ReadonlyMap<Version, TestBed>,
  spec: CoinCategorySpec,
  turns: number,
  seconds: number,
): Promise<Record<Version, Round>> {
  const sides: { readonly version: Version; readonly testBed: TestBed; readonly load: FetchLoad }[] = [];
  for (const [version, testBed] of testBeds) {
    sides.push({ version, testBed, load: { ...(await prepare(testBed, spec, turns * seconds)), seconds } });
  }
  const results: Record<Version, Turn[]> = { this: [], other: [] };
  for (let turn = 0; turn < turns; turn += 1) {
    // Each version is the first one in every other turn.
    for (const { version, load } of turn % 2 === 0 ? sides : [...sides].reverse()) {
      const { calls, latency, seconds: took } = await fetchByGhz(load);
      const idle = await fetchByGhz({ ...load, concurrency: 1, connections: 1 });
      results[version].push({ perSecond: calls / took, p99: latency.p99, idleP50: idle.latency.p50 });
    }
  }
  const mixed: Record<Version, number> = { this: 0, other: 0 };
  for (const { version, testBed } of sides) mixed[version] = await mixedCallsPerSecond(testBed, MIXED_SECONDS);
  const roundOf = (version: Version): Round => {
    const of = (field: keyof Turn) => median(results[version].map((turn) => turn[field]));
    return { perSecond: of('perSecond'), p99: of('p99'), idleP50: of('idleP50'), mixedPerSecond: mixed[version] };
  };
  return { this: roundOf('this'), other: roundOf('other') };
}

/** Fills the stock for a load of so many seconds, and warms the service up. */
async function prepare(testBed: TestBed, spec: CoinCategorySpec, seconds: number): Promise<FetchLoad> {
  const { targets, service } = testBed;
  const perUser = Math.ceil((MAX_PER_SECOND * (seconds + LEAD_IN_S)) / targets.length);
  await testBed.stock([{ spec, perUser }]);
  await testBed.query('CHECKPOINT');
  const [token = ''] = await testBed.tokens(1);
  const load = { address: service.address, token, targets, category: spec.category, connections: 4, seconds };
  await leadIn(load);
  return load;
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
