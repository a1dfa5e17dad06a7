import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { type Outcome, runCommand } from '../service/command';
import { columns, type Latency, latencyOf, median, positive, progress, verdict } from '../service/numbers';
import { treeCpuMs } from '../service/processor';
import { Stage } from '../service/stage';
import { type Done, type Kind, MixedCallers, SHARES } from './callers';

const USAGE = `Usage: npm run bench -- mixed [--rounds 5] [--seconds 5] [--lanes 64] [--users 100] [--targets 1000] [--batch 256] [--out docs/performance]
  Uploads, fetches of GOLD with fallback, batch fetches and counts, by shares (${JSON.stringify(SHARES)} percent of the calls), so many at a
  time: against a service with gathered claims and one without (AQM_CLAIM_BATCH=1), on one PostgreSQL, in rounds by turns. The
  generator is grpc-js on the same cores. Settings of the environment reach both services.`;

const POSTGRES = ['shared_buffers=1GB', 'max_wal_size=8GB', 'checkpoint_timeout=1h'];
/** So that most fetches fall back: GOLD, SILVER, BRONZE of each target before a round. */
const STOCK = [5, 20, 60] as const;
const ARMS = ['gathered', 'not gathered'] as const;
type Arm = (typeof ARMS)[number];

interface KindOfRound {
  readonly callsPerSecond: number;
  readonly coinsPerSecond: number;
  readonly latency: Latency;
  readonly failures: Readonly<Record<string, number>>;
}

interface Round {
  readonly callsPerSecond: number;
  readonly kinds: Readonly<Record<Kind, KindOfRound>>;
  /** Of the machine's cores. */
  readonly cores: { readonly service: number; readonly generator: number; readonly postgres: number };
}

runCommand(
  USAGE,
  { rounds: '5', seconds: '5', lanes: '64', users: '100', targets: '1000', batch: '256' },
  async (options): Promise<Outcome> => {
    const [rounds, seconds] = [positive('rounds', options.rounds), positive('seconds', options.seconds)];
    const [lanes, users] = [positive('lanes', options.lanes), positive('users', options.users)];
    const targets = positive('targets', options.targets);
    const env = { AQM_LOG_LEVEL: 'error', AQM_CLAIM_BATCH: options.batch };
    const stage = await Stage.open({ postgresSettings: POSTGRES, env, targets, coinsPerTarget: 0 });
    const ungathered = await stage.spawnService({ ...env, AQM_CLAIM_BATCH: '1' });
    const ids = stage.targets.slice(0, users);
    const who = await Promise.all(ids.map(async (id) => ({ id, token: await stage.token(id) })));
    const services = { gathered: stage.service, 'not gathered': ungathered };
    const callers = {
      gathered: new MixedCallers(stage.service.address, who, stage.targets),
      'not gathered': new MixedCallers(ungathered.address, who, stage.targets),
    };
    const results: Record<Arm, Round[]> = { gathered: [], 'not gathered': [] };
    try {
      // The first round only warms up.
      for (let round = -1; round < rounds; round += 1) {
        for (const arm of round % 2 === 0 ? ARMS : [...ARMS].reverse()) {
          await stage.stock(COIN_CATEGORIES.map((spec, place) => ({ spec, perUser: STOCK[place] ?? 0 })));
          const serviceCpu = () => treeCpuMs(services[arm].child.pid ?? 0);
          const result = await runRound(stage, callers[arm], serviceCpu, lanes, seconds);
          progress(`round ${round + 1}, ${arm}: ${result.callsPerSecond.toFixed(0)} calls/s`);
          if (round >= 0) results[arm].push(result);
        }
      }
    } finally {
      for (const each of Object.values(callers)) each.close();
      await stage.close();
    }
    return outcomeOf(
      { rounds, seconds, lanes, users, batch: options.batch, targets, shares: SHARES, postgres: POSTGRES },
      results,
    );
  },
);

async function runRound(
  stage: Stage,
  callers: MixedCallers,
  serviceCpuMs: () => number,
  lanes: number,
  seconds: number,
): Promise<Round> {
  const cpu = () => {
    const { user, system } = process.cpuUsage();
    return { generator: (user + system) / 1000, service: serviceCpuMs(), postgres: stage.postgresCpuMs() };
  };
  const calls: Done[] = [];
  const [before, begin] = [cpu(), performance.now()];
  const lane = async (): Promise<void> => {
    while (performance.now() - begin < seconds * 1000) calls.push(await callers.call());
  };
  await Promise.all(Array.from({ length: lanes }, lane));
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

function summaryOf(calls: readonly Done[], ms: number): KindOfRound {
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

function outcomeOf(settings: object, results: Readonly<Record<Arm, readonly Round[]>>): Outcome {
  const of = (arm: Arm, value: (round: Round) => number) => median(results[arm].map(value));
  const rows = ARMS.flatMap((arm) => [
    ...(Object.keys(SHARES) as Kind[]).map((kind) => {
      const ofKind = (value: (of: KindOfRound) => number) => of(arm, ({ kinds }) => value(kinds[kind]));
      const failed = ofKind(({ failures }) => Object.values(failures).reduce((sum, count) => sum + count, 0));
      return [
        `${arm}, ${kind}`,
        ofKind(({ callsPerSecond }) => callsPerSecond).toFixed(0),
        ofKind(({ coinsPerSecond }) => coinsPerSecond).toFixed(0),
        ...(['p50', 'p95', 'p99'] as const).map((which) => ofKind(({ latency }) => latency[which]).toFixed(1)),
        failed,
      ];
    }),
    [
      `${arm}, all`,
      of(arm, ({ callsPerSecond }) => callsPerSecond).toFixed(0),
      of(arm, ({ kinds }) => Object.values(kinds).reduce((sum, { coinsPerSecond }) => sum + coinsPerSecond, 0)).toFixed(
        0,
      ),
    ],
  ]);
  const busy = ARMS.map((arm) => {
    const cores = (whose: keyof Round['cores']) => of(arm, (round) => round.cores[whose]).toFixed(2);
    return `cores, ${arm}: service ${cores('service')}, generator ${cores('generator')}, PostgreSQL ${cores('postgres')}`;
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
