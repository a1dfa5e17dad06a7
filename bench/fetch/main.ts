import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { bars } from '../harness/bars';
import { type BenchResult, runCommand } from '../harness/command';
import { columns, type Latency, median, positive, progress, verdict } from '../harness/numbers';
import { Comparison, type Round, VARIANTS, type Variant } from './comparison';
import { IN_FLIGHT, POSTGRES } from './load';

const USAGE = `Usage: npm run bench -- fetch [--rounds 5] [--warm-up 1] [--seconds 5] [--tier GOLD]
                              [--targets 1000] [--connections 16] [--batch 256] [--workers 1]
                              [--request-ids none|new] [--out docs/performance]

  Measures the throughput and latency of single-coin fetches with ${IN_FLIGHT} calls in flight, and
  the latency of single calls on an idle service. Compares, in interleaved rounds: the service with
  batched claims; the same without batching (AQM_CLAIM_BATCH=1); an empty grpc-js echo; pgbench with
  the plain claim on the same PostgreSQL; the service's store without gRPC; and a minimal gRPC
  server that only hands no coin out twice. Read the ratios between the variants: absolute rates
  depend on the machine. Only coins that left the stock count. Settings in the environment reach
  both services; --workers applies to every gRPC server; with --request-ids new each call has a
  request_id. Exit code 1: a required ratio was missed.`;

/** An upper bound of what any variant over gRPC reaches on two cores. */
const MAX_PER_SECOND = 16_000;

interface Idle {
  readonly batched: Latency;
  readonly unbatched: Latency;
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
    workers: process.env.AQM_WORKERS ?? '1',
    'request-ids': 'none',
  },
  async (options): Promise<BenchResult> => {
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
    const results: Record<Variant, Round[]> = {
      batched: [],
      unbatched: [],
      'plain claim': [],
      echo: [],
      'store alone': [],
      'once alone': [],
    };
    const idle: Idle[] = [];
    const comparison = await Comparison.open(plan);
    try {
      // Warm-up rounds first.
      for (let round = -Number(options['warm-up']); round < rounds; round += 1) {
        await comparison.stockUp(Math.max(...results.batched.map(({ perSecond }) => 1.5 * perSecond), MAX_PER_SECOND));
        // The order rotates, so that no variant always runs after the same one.
        const shift = (round + VARIANTS.length) % VARIANTS.length;
        for (const variant of [...VARIANTS.slice(shift), ...VARIANTS.slice(0, shift)]) {
          const result = await comparison.round(variant);
          progress(`round ${round + 1}, ${variant}: ${result.perSecond.toFixed(0)} coins/s${complaint(result)}`);
          if (round >= 0) results[variant].push(result);
        }
        const single = await idleCalls(comparison, round % 2 === 0);
        if (round >= 0) idle.push(single);
      }
    } finally {
      await comparison.close();
    }
    return resultOf({ tier: spec.name, ...plan, spec: undefined, rounds, inFlight: IN_FLIGHT }, results, idle);
  },
);

function isNamed(requestIds: string): boolean {
  if (requestIds !== 'none' && requestIds !== 'new') throw new Error('--request-ids must be one of none, new');
  return requestIds === 'new';
}

async function idleCalls(comparison: Comparison, batchedFirst: boolean): Promise<Idle> {
  const first = await comparison.idle(batchedFirst ? 'batched' : 'unbatched');
  const second = await comparison.idle(batchedFirst ? 'unbatched' : 'batched');
  return batchedFirst ? { batched: first, unbatched: second } : { batched: second, unbatched: first };
}

function complaint({ empty, failures }: Round): string {
  const failed = Object.entries(failures).map(([code, calls]) => `, ${calls} ${code}`);
  return `${empty > 0 ? `, ${empty} EMPTY` : ''}${failed.join('')}`;
}

function resultOf(
  settings: object,
  results: Readonly<Record<Variant, readonly Round[]>>,
  idle: readonly Idle[],
): BenchResult {
  const rate = (variant: Variant) => median(results[variant].map(({ perSecond }) => perSecond));
  const [ours, unbatched, plain, echo, alone, once] = VARIANTS.map(rate) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const single = {
    batched: median(idle.map(({ batched }) => batched.p50)),
    unbatched: median(idle.map(({ unbatched: { p50 } }) => p50)),
  };
  const ratios = {
    toPlainClaim: ours / plain,
    toEcho: ours / echo,
    toUnbatched: ours / unbatched,
    storeAloneToPlainClaim: alone / plain,
    onceAloneToEcho: once / echo,
    idleToUnbatched: single.batched / single.unbatched,
  };
  const summary = VARIANTS.map((variant) => ({ variant, perSecond: rate(variant), ...details(results[variant]) }));
  const row = ({ variant, perSecond, p50, p99, cpuUs, failed, empty }: (typeof summary)[number]) => [
    variant,
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
      `idle, one call at a time: p50 ${single.batched.toFixed(2)} ms batched, ${single.unbatched.toFixed(2)} ms unbatched`,
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
      'Coins fetched per second: median and range of the rounds',
      summary.map(({ variant, perSecond, from, to }) => ({ name: variant, value: perSecond, from, to })),
      '/s',
    ),
    verdicts: [
      verdict(
        ours >= wanted,
        `throughput is at least 1.5 times the plain claim, or 0.72 of the echo if that is less: ${ratios.toPlainClaim.toFixed(2)} times, ${ratios.toEcho.toFixed(2)} of the echo`,
      ),
      verdict(
        ratios.toUnbatched >= 3,
        `throughput is at least 3 times that without batching: ${ratios.toUnbatched.toFixed(2)} times`,
      ),
      verdict(
        ratios.idleToUnbatched <= 1.1,
        `a single call takes at most 1.1 times as long as without batching: ${ratios.idleToUnbatched.toFixed(2)} times`,
      ),
      verdict(failures === 0, `every call was answered with a coin: ${failures} were not`),
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
