import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { bars } from '../service/bars';
import { type Outcome, runCommand } from '../service/command';
import { columns, type Latency, median, positive, progress, verdict } from '../service/numbers';
import { ARMS, type Arm, Contest, type Round } from './contest';
import { IN_FLIGHT, POSTGRES } from './load';

const USAGE = `Usage: npm run bench -- fetch [--rounds 5] [--warm-up 1] [--seconds 5] [--tier GOLD] [--targets 1000] [--connections 16] [--batch 256] [--workers 1] [--request-ids none|new] [--out docs/performance]
  Fetches of one coin, ${IN_FLIGHT} calls in flight from ghz, against a service with gathered claims, the same without (AQM_CLAIM_BATCH=1),
  an empty grpc-js echo, pgbench running the plain claim in the same PostgreSQL, the service's store in the bench's own process, without a wire (its callers
  are the client), and the least that hands a coin to one caller only, with no other promise, over gRPC; and single calls, idle. In rounds by turns.
  Only answers with a coin count: what coin_fetch has more after a round. AQM_CLAIM_LANES and other settings of the environment
  reach both services; --workers is for all that answer over gRPC; with --request-ids new each call of ghz has an id, so that it could be
  repeated. Exit code 1 when a ratio is not what it must be.`;

/** More than anything that takes coins over a wire does on two cores. */
const MAX_PER_SECOND = 16_000;

interface Idle {
  readonly gathered: Latency;
  readonly ungathered: Latency;
}

runCommand(
  USAGE,
  {
    rounds: '5',
    'warm-up': '1',
    seconds: '5',
    tier: 'GOLD',
    targets: '1000',
    connections: '16',
    batch: process.env.AQM_CLAIM_BATCH ?? '256',
    workers: process.env.WORKERS ?? '1',
    'request-ids': 'none',
  },
  async (options): Promise<Outcome> => {
    const rounds = positive('rounds', options.rounds);
    const spec = COIN_CATEGORIES.find(({ name }) => name === options.tier.toUpperCase());
    if (!spec) throw new Error(`--tier must be one of ${COIN_CATEGORIES.map(({ name }) => name).join(', ')}`);
    const plan = {
      spec,
      targets: positive('targets', options.targets),
      seconds: positive('seconds', options.seconds),
      connections: positive('connections', options.connections),
      batch: positive('batch', options.batch),
      workers: positive('workers', options.workers),
      named: isNamed(options['request-ids']),
    };
    const results: Record<Arm, Round[]> = {
      gathered: [],
      'not gathered': [],
      'plain claim': [],
      echo: [],
      'store alone': [],
      'once alone': [],
    };
    const idle: Idle[] = [];
    const contest = await Contest.open(plan);
    try {
      // Rounds that only warm up come first.
      for (let round = -Number(options['warm-up']); round < rounds; round += 1) {
        await contest.stockUp(Math.max(...results.gathered.map(({ perSecond }) => 1.5 * perSecond), MAX_PER_SECOND));
        // The order changes, so that none always runs on what another left warm.
        const shift = (round + ARMS.length) % ARMS.length;
        for (const arm of [...ARMS.slice(shift), ...ARMS.slice(0, shift)]) {
          const result = await contest.round(arm);
          progress(`round ${round + 1}, ${arm}: ${result.perSecond.toFixed(0)} coins/s${complaint(result)}`);
          if (round >= 0) results[arm].push(result);
        }
        const single = await idleCalls(contest, round % 2 === 0);
        if (round >= 0) idle.push(single);
      }
    } finally {
      await contest.close();
    }
    return outcomeOf({ tier: spec.name, ...plan, spec: undefined, rounds, inFlight: IN_FLIGHT }, results, idle);
  },
);

function isNamed(requestIds: string): boolean {
  if (requestIds !== 'none' && requestIds !== 'new') throw new Error('--request-ids must be one of none, new');
  return requestIds === 'new';
}

async function idleCalls(contest: Contest, gatheredFirst: boolean): Promise<Idle> {
  const first = await contest.idle(gatheredFirst ? 'gathered' : 'not gathered');
  const second = await contest.idle(gatheredFirst ? 'not gathered' : 'gathered');
  return gatheredFirst ? { gathered: first, ungathered: second } : { gathered: second, ungathered: first };
}

function complaint({ empty, failures }: Round): string {
  const failed = Object.entries(failures).map(([code, calls]) => `, ${calls} ${code}`);
  return `${empty > 0 ? `, ${empty} EMPTY` : ''}${failed.join('')}`;
}

function outcomeOf(settings: object, results: Readonly<Record<Arm, readonly Round[]>>, idle: readonly Idle[]): Outcome {
  const rate = (arm: Arm) => median(results[arm].map(({ perSecond }) => perSecond));
  const [ours, ungathered, plain, echo, alone, once] = ARMS.map(rate) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const single = {
    gathered: median(idle.map(({ gathered }) => gathered.p50)),
    ungathered: median(idle.map(({ ungathered: { p50 } }) => p50)),
  };
  const ratios = {
    toPlainClaim: ours / plain,
    toEcho: ours / echo,
    toUngathered: ours / ungathered,
    storeAloneToPlainClaim: alone / plain,
    onceAloneToEcho: once / echo,
    idleToUngathered: single.gathered / single.ungathered,
  };
  const summary = ARMS.map((arm) => ({ arm, perSecond: rate(arm), ...details(results[arm]) }));
  const row = ({ arm, perSecond, p50, p99, cpuUs, failed, empty }: (typeof summary)[number]) => [
    arm,
    perSecond.toFixed(0),
    p50.toFixed(1),
    p99?.toFixed(1) ?? '',
    cpuUs.service.toFixed(0),
    cpuUs.generator.toFixed(0),
    cpuUs.postgres.toFixed(0),
    empty,
    failed,
  ];
  const heads = ['', 'coins/s', 'p50 ms', 'p99 ms', 'service µs', 'client µs', 'PG µs', 'empty', 'failed'];
  const failures = summary.reduce((sum, { failed, empty }) => sum + failed + empty, 0);
  const wanted = Math.min(1.5 * plain, 0.72 * echo);
  return {
    name: 'fetch',
    table: [
      columns([heads, ...summary.map(row)]),
      `idle, one call after the other: p50 ${single.gathered.toFixed(2)} ms gathered, ${single.ungathered.toFixed(2)} ms not gathered`,
    ].join('\n'),
    json: {
      settings: { ...settings, postgres: POSTGRES },
      summary,
      idle: single,
      ratios,
      rounds: results,
      idleRounds: idle,
    },
    svg: bars(
      'Coins fetched a second: median of the rounds, and what they spanned',
      summary.map(({ arm, perSecond, from, to }) => ({ name: arm, value: perSecond, from, to })),
      '/s',
    ),
    verdicts: [
      verdict(
        ours >= wanted,
        `at least 1.5 times the plain claim, or 0.72 of the echo where that is less: ${ratios.toPlainClaim.toFixed(2)} times, ${ratios.toEcho.toFixed(2)} of the echo`,
      ),
      verdict(
        ratios.toUngathered >= 3,
        `at least 3 times the service with batching off: ${ratios.toUngathered.toFixed(2)} times`,
      ),
      verdict(
        ratios.idleToUngathered <= 1.1,
        `a single call takes at most 1.1 times as long as with batching off: ${ratios.idleToUngathered.toFixed(2)} times`,
      ),
      verdict(failures === 0, `every call was answered, with a coin: ${failures} were not`),
    ],
  };
}

function details(rounds: readonly Round[]) {
  const rates = rounds.map(({ perSecond }) => perSecond);
  const cpu = (whose: keyof Round['cpuUs']) => median(rounds.map(({ cpuUs }) => cpuUs[whose]));
  return {
    from: Math.min(...rates),
    to: Math.max(...rates),
    p50: median(rounds.map(({ latency }) => ('p50' in latency ? latency.p50 : latency.mean))),
    p99: rounds.some(({ latency }) => 'p99' in latency)
      ? median(rounds.map(({ latency }) => ('p99' in latency ? latency.p99 : 0)))
      : undefined,
    cpuUs: { service: cpu('service'), generator: cpu('generator'), postgres: cpu('postgres') },
    empty: rounds.reduce((sum, { empty }) => sum + empty, 0),
    failed: rounds.reduce(
      (sum, { failures }) => sum + Object.values(failures).reduce((all, calls) => all + calls, 0),
      0,
    ),
  };
}
