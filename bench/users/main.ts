import { availableParallelism } from 'node:os';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { chart } from '../harness/chart';
import { BATCH_USAGE, type BenchResult, batchOf, runCommand } from '../harness/command';
import { columns, positive, progress, verdict } from '../harness/numbers';
import { TestBed } from '../harness/test-bed';
import type { Load } from './load-generator';
import { LoadGenerator } from './spawn-load-generator';

const USAGE = `Usage: npm run bench -- users [--users 10000] [--warm-up 40] [--seconds 60] [--from 1000]
                              [--step 1000] [--to 20000] [--tier GOLD] ${BATCH_USAGE}
                              [--out docs/performance]

  Measures the latency of single-coin fetches by many connected users, each with its own connection
  and token, under open-loop load. Compares increasing rates, after a warm-up at the first one,
  until p99 passes 50 ms or calls fail; the highest rate below that is the capacity. Latency counts
  from the time at which a call was due; the last columns show which process was busy, in cores.
  Settings in the environment reach the service. Exit code 1: a required rate or latency was missed.`;

const MAX_P99_MS = 50;
/** A step with a larger share of failed calls exceeds the capacity. */
const MAX_FAILED = 0.001;
const TARGETS = 1000;
const POSTGRES = ['shared_buffers=1GB', 'max_wal_size=8GB', 'checkpoint_timeout=1h'];

interface Step {
  readonly perSecond: number;
  readonly load: Load;
  readonly answeredPerSecond: number;
  /** The number of due calls that were not answered with a coin. */
  readonly failed: number;
  /** The average number of busy cores, by process. */
  readonly cores: { readonly service: number; readonly generator: number; readonly postgres: number };
  readonly bottleneck: string;
  /** The first attempt, if it exceeded the limits and the step was repeated. */
  readonly firstTry?: Step;
}

runCommand(
  USAGE,
  { users: '10000', 'warm-up': '40', seconds: '60', from: '1000', step: '1000', to: '20000', tier: 'GOLD', batch: '' },
  async (options): Promise<BenchResult> => {
    const [users, seconds] = [positive('users', options.users), positive('seconds', options.seconds)];
    const [from, step, to] = [
      positive('from', options.from),
      positive('step', options.step),
      positive('to', options.to),
    ];
    const spec = COIN_CATEGORIES.find(({ name }) => name === options.tier.toUpperCase());
    if (!spec) throw new Error(`--tier must be one of ${COIN_CATEGORIES.map(({ name }) => name).join(', ')}`);
    const testBed = await TestBed.open({
      postgresSettings: POSTGRES,
      env: { AQM_LOG_LEVEL: 'error', ...batchOf(options.batch) },
      targets: TARGETS,
      coinsPerTarget: Math.ceil((2 * users) / TARGETS) + 20,
      spec,
    });
    const generator = new LoadGenerator();
    const steps: Step[] = [];
    try {
      const tokens = await testBed.tokens(users);
      await generator.connect(testBed.service.address, tokens, { ids: testBed.targets, category: spec.category });
      const { outcomes } = await generator.run({ do: 'greet' });
      progress(`${users} users are connected and have fetched one coin each: ${JSON.stringify(outcomes)}`);
      const stepOf = (perSecond: number, forSeconds: number) =>
        runStep(testBed, generator, perSecond, forSeconds, () =>
          testBed.stock([{ spec, perUser: Math.ceil((1.3 * perSecond * forSeconds) / TARGETS) + 20 }]),
        );
      // Until most code is compiled: before that, garbage lives longer.
      const warmUp = await stepOf(from, positive('warm-up', options['warm-up']));
      progress(`${rowOf(warmUp).join('  ')}  (warming up)`);
      for (let perSecond = from; perSecond <= to; perSecond += step) {
        const once = () => stepOf(perSecond, seconds);
        let taken = await once();
        progress(rowOf(taken).join('  '));
        if (isTooMuch(taken)) {
          // A stall of the machine is not a limit of the service.
          taken = { ...(await once()), firstTry: taken };
          progress(`again: ${rowOf(taken).join('  ')}`);
        }
        steps.push(taken);
        if (isTooMuch(taken)) break;
      }
    } finally {
      generator.close();
      await testBed.close();
    }
    return resultOf(
      { users, seconds, tier: spec.name, ...batchOf(options.batch), targets: TARGETS, postgres: POSTGRES },
      steps,
    );
  },
);

async function runStep(
  testBed: TestBed,
  generator: LoadGenerator,
  perSecond: number,
  seconds: number,
  stockUp: () => Promise<void>,
): Promise<Step> {
  await stockUp();
  const cpu = () => ({
    service: testBed.serviceCpuMs(),
    generator: generator.cpuMs(),
    postgres: testBed.postgresCpuMs(),
  });
  const [before, coins, begin] = [cpu(), await testBed.coinsFetched(), performance.now()];
  const load = await generator.run({ do: 'load', perSecond, ms: seconds * 1000 });
  const [ms, after] = [performance.now() - begin, cpu()];
  const answered = load.outcomes.answered ?? 0;
  const handedOut = (await testBed.coinsFetched()) - coins;
  if (handedOut < answered)
    throw new Error(`${answered} answers carried a coin, but only ${handedOut} coins were handed out`);
  const cores = {
    service: (after.service - before.service) / ms,
    generator: (after.generator - before.generator) / ms,
    postgres: (after.postgres - before.postgres) / ms,
  };
  return {
    perSecond,
    load,
    answeredPerSecond: (1000 * answered) / Math.max(load.ms, seconds * 1000),
    failed: load.sent - answered,
    cores,
    bottleneck: bottleneckOf(cores),
  };
}

/** Names the bottleneck of a step. Each Node process has one busy thread; all processes share the machine. */
function bottleneckOf(cores: Step['cores']): string {
  const { service, generator, postgres } = cores;
  const all = service + generator + postgres;
  if (service > 0.9 && !process.env.AQM_WORKERS) return "the service's thread";
  if (generator > 0.8) return "the generator's thread";
  if (all > 0.9 * availableParallelism()) return 'all cores';
  return postgres > service ? 'none; PostgreSQL is the busiest' : 'none; the service is the busiest';
}

const isTooMuch = ({ load, failed }: Step): boolean =>
  load.latency.p99 >= MAX_P99_MS || failed > MAX_FAILED * load.sent;

const HEADS = [
  'calls/s',
  'answered/s',
  'p50 ms',
  'p95 ms',
  'p99 ms',
  'max ms',
  'failed',
  'service',
  'client',
  'PG',
  'bottleneck',
];

function rowOf({ perSecond, answeredPerSecond, load: { latency }, failed, cores, bottleneck }: Step): string[] {
  const numbers = [latency.p50, latency.p95, latency.p99, latency.max].map((ms) => ms.toFixed(1));
  const busy = [cores.service, cores.generator, cores.postgres].map((share) => share.toFixed(2));
  return [String(perSecond), answeredPerSecond.toFixed(0), ...numbers, String(failed), ...busy, `  ${bottleneck}`];
}

function resultOf(
  settings: { readonly users: number; readonly [name: string]: unknown },
  steps: readonly Step[],
): BenchResult {
  const good = steps.filter((step) => !isTooMuch(step));
  const highest = good.at(-1);
  const atThousand = steps.find(({ perSecond }) => perSecond === 1000);
  const lost = Math.max(0, ...steps.map(({ load }) => load.lostConnections));
  const line = (name: string, of: (step: Step) => number, isDashed = false, colour = 0) => ({
    name,
    isDashed,
    colour,
    points: steps.map((step) => [step.perSecond, of(step)] as const),
  });
  return {
    name: 'users',
    table: columns([HEADS, ...steps.map(rowOf)], 11),
    json: { settings, highestPerSecond: highest?.perSecond ?? 0, steps },
    svg: chart({ title: 'Latency of a fetch, ms', x: 'fetches due per second', isLogY: true, limit: MAX_P99_MS }, [
      line('p50', ({ load }) => load.latency.p50),
      line('p95', ({ load }) => load.latency.p95, false, 1),
      line('p99', ({ load }) => load.latency.p99, true, 2),
    ]),
    verdicts: [
      verdict(
        (highest?.perSecond ?? 0) >= 2000,
        `${settings.users} users: at least 2,000 fetches/s with a p99 under ${MAX_P99_MS} ms: ${highest?.perSecond ?? 0}/s`,
      ),
      ...(atThousand
        ? [
            verdict(
              atThousand.load.latency.p99 < 10,
              `at 1,000/s p99 is under 10 ms: ${atThousand.load.latency.p99.toFixed(1)} ms`,
            ),
          ]
        : []),
      verdict(lost === 0, `every connection stayed open: ${lost} were lost`),
    ],
  };
}
