import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { type BenchResult, runCommand } from '../harness/command';
import { columns, type Latency, latencyOf, median, positive, progress, verdict } from '../harness/numbers';
import { treeCpuMs } from '../harness/processor';
import { TestBed } from '../harness/test-bed';
import { type CompletedCall, type Kind, MixedCallers, SHARES } from './mixed-callers';

const USAGE = `Usage: npm run bench -- mixed [--rounds 5] [--seconds 5] [--concurrency 64] [--users 100] [--targets 1000]
                              [--batch 256] [--out docs/performance]

  Measures a mix of calls: uploads, GOLD fetches with fallback, batch fetches and counts, by shares
  (${JSON.stringify(SHARES)} percent). Compares the service with batched claims and without
  (AQM_CLAIM_BATCH=1), in interleaved rounds on one PostgreSQL. The load generator is grpc-js on the
  same cores, so read the two variants against each other. --concurrency is the number of concurrent
  calls. Settings in the environment reach both services.`;

const POSTGRES = ['shared_buffers=1GB', 'max_wal_size=8GB', 'checkpoint_timeout=1h'];
/** Coins added per target before a round, as GOLD, SILVER, BRONZE. GOLD is scarce, so that most fetches fall back. */
const STOCK = [5, 20, 60] as const;
const VARIANTS = ['batched', 'unbatched'] as const;
type Variant = (typeof VARIANTS)[number];

interface KindOfRound {
  readonly callsPerSecond: number;
  readonly coinsPerSecond: number;
  readonly latency: Latency;
  readonly failures: Readonly<Record<string, number>>;
}

interface Round {
  readonly callsPerSecond: number;
  readonly kinds: Readonly<Record<Kind, KindOfRound>>;
  /** The average number of busy cores. */
  readonly cores: { readonly service: number; readonly generator: number; readonly postgres: number };
}

runCommand(
  USAGE,
  { rounds: '5', seconds: '5', concurrency: '64', users: '100', targets: '1000', batch: '256' },
  async (options): Promise<BenchResult> => {
    const [rounds, seconds] = [positive('rounds', options.rounds), positive('seconds', options.seconds)];
    const [concurrency, users] = [positive('concurrency', options.concurrency), positive('users', options.users)];
    const targets = positive('targets', options.targets);
    const env = { AQM_LOG_LEVEL: 'error', AQM_CLAIM_BATCH: options.batch };
    const testBed = await TestBed.open({ postgresSettings: POSTGRES, env, targets, coinsPerTarget: 0 });
    const unbatched = await testBed.spawnService({ ...env, AQM_CLAIM_BATCH: '1' });
    const ids = testBed.targets.slice(0, users);
    const who = await Promise.all(ids.map(async (id) => ({ id, token: await testBed.token(id) })));
    const services = { batched: testBed.service, unbatched: unbatched };
    const callers = {
      batched: new MixedCallers(testBed.service.address, who, testBed.targets),
      unbatched: new MixedCallers(unbatched.address, who, testBed.targets),
    };
    const results: Record<Variant, Round[]> = { batched: [], unbatched: [] };
    try {
      // The first round is a warm-up.
      for (let round = -1; round < rounds; round += 1) {
        for (const variant of round % 2 === 0 ? VARIANTS : [...VARIANTS].reverse()) {
          await testBed.stock(COIN_CATEGORIES.map((spec, place) => ({ spec, perUser: STOCK[place] ?? 0 })));
          const serviceCpu = () => treeCpuMs(services[variant].child.pid ?? 0);
          const result = await runRound(testBed, callers[variant], serviceCpu, concurrency, seconds);
          progress(`round ${round + 1}, ${variant}: ${result.callsPerSecond.toFixed(0)} calls/s`);
          if (round >= 0) results[variant].push(result);
        }
      }
    } finally {
      for (const each of Object.values(callers)) each.close();
      await testBed.close();
    }
    return resultOf(
      { rounds, seconds, concurrency, users, batch: options.batch, targets, shares: SHARES, postgres: POSTGRES },
      results,
    );
  },
);

async function runRound(
  testBed: TestBed,
  callers: MixedCallers,
  serviceCpuMs: () => number,
  concurrency: number,
  seconds: number,
): Promise<Round> {
  const cpu = () => {
    const { user, system } = process.cpuUsage();
    return { generator: (user + system) / 1000, service: serviceCpuMs(), postgres: testBed.postgresCpuMs() };
  };
  const calls: CompletedCall[] = [];
  const [before, begin] = [cpu(), performance.now()];
  const worker = async (): Promise<void> => {
    while (performance.now() - begin < seconds * 1000) calls.push(await callers.call());
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  const [ms, after] = [performance.now() - begin, cpu()];
  const cores = (of: 'generator' | 'service' | 'postgres') => (after[of] - before[of]) / ms;
  const kinds = Object.keys(SHARES).map((kind) => [
    kind,
    summaryOf(
      calls.filter((done) => done.kind === kind),
      ms,
    ),
  ]);
  return {
    callsPerSecond: (1000 * calls.filter(({ failure }) => failure === undefined).length) / ms,
    kinds: Object.fromEntries(kinds),
    cores: { generator: cores('generator'), service: cores('service'), postgres: cores('postgres') },
  };
}

function summaryOf(calls: readonly CompletedCall[], ms: number): KindOfRound {
  const answered = calls.filter(({ failure }) => failure === undefined);
  const failures: Record<string, number> = {};
  for (const { failure } of calls) if (failure) failures[failure] = (failures[failure] ?? 0) + 1;
  return {
    callsPerSecond: (1000 * answered.length) / ms,
    coinsPerSecond: (1000 * answered.reduce((sum, { coins }) => sum + coins, 0)) / ms,
    latency: latencyOf(answered.map((call) => call.ms)),
    failures,
  };
}

function resultOf(settings: object, results: Readonly<Record<Variant, readonly Round[]>>): BenchResult {
  const of = (variant: Variant, value: (round: Round) => number) => median(results[variant].map(value));
  const rows = VARIANTS.flatMap((variant) => [
    ...(Object.keys(SHARES) as Kind[]).map((kind) => {
      const ofKind = (value: (of: KindOfRound) => number) => of(variant, ({ kinds }) => value(kinds[kind]));
      const failed = ofKind(({ failures }) => Object.values(failures).reduce((sum, count) => sum + count, 0));
      return [
        `${variant}, ${kind}`,
        ofKind(({ callsPerSecond }) => callsPerSecond).toFixed(0),
        ofKind(({ coinsPerSecond }) => coinsPerSecond).toFixed(0),
        ...(['p50', 'p95', 'p99'] as const).map((which) => ofKind(({ latency }) => latency[which]).toFixed(1)),
        failed,
      ];
    }),
    [
      `${variant}, all`,
      of(variant, ({ callsPerSecond }) => callsPerSecond).toFixed(0),
      of(variant, ({ kinds }) =>
        Object.values(kinds).reduce((sum, { coinsPerSecond }) => sum + coinsPerSecond, 0),
      ).toFixed(0),
    ],
  ]);
  const busy = VARIANTS.map((variant) => {
    const cores = (whose: keyof Round['cores']) => of(variant, (round) => round.cores[whose]).toFixed(2);
    return `cores, ${variant}: service ${cores('service')}, generator ${cores('generator')}, PostgreSQL ${cores('postgres')}`;
  });
  const failed = Object.values(results)
    .flat()
    .flatMap(({ kinds }) => Object.values(kinds).flatMap(({ failures }) => Object.values(failures)))
    .reduce((sum, count) => sum + count, 0);
  return {
    name: 'mixed',
    table: [columns([['', 'calls/s', 'coins/s', 'p50 ms', 'p95 ms', 'p99 ms', 'failed'], ...rows]), ...busy].join('\n'),
    json: { settings, rounds: results },
    verdicts: [verdict(failed === 0, `every call was answered: ${failed} were not`)],
  };
}
