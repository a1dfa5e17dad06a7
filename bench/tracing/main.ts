import { join } from 'node:path';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { Jaeger } from '../../testkit/jaeger';
import type { ServiceProcess } from '../../testkit/service-process';
import { bars } from '../harness/bars';
import { type BenchResult, runCommand } from '../harness/command';
import { runGhz } from '../harness/ghz';
import { columns, median, positive, progress, verdict } from '../harness/numbers';
import { treeCpuMs } from '../harness/processor';
import { TestBed } from '../harness/test-bed';

const USAGE = `Usage: npm run bench -- tracing [--pairs 7] [--seconds 3] [--concurrency 64]
                                [--out docs/performance]

  Measures what telemetry costs a fetch. Compares, in interleaved rounds, services that differ only
  in telemetry: cut out of the code, off, on with 1 % of the traces, with all traces, and with
  metrics. A Jaeger receives the traces. Read the column "of off": throughput relative to telemetry
  off in the same round. Exit code 1: 1 % of the traces costs more than 5 % of throughput.`;

const VARIANTS = ['cut out', 'off', 'traces 1 %', 'traces 100 %', 'metrics'] as const;
type Variant = (typeof VARIANTS)[number];
const [, , BRONZE] = COIN_CATEGORIES;
const TARGETS = 1000;
/** An upper bound of what any variant reaches. */
const MAX_PER_SECOND = 9000;
const POSTGRES = ['shared_buffers=512MB', 'max_wal_size=4GB', 'checkpoint_timeout=1h'];
const METRICS_PORT = '19464';

interface Round {
  readonly perSecond: number;
  readonly cpuUs: number;
}

runCommand(USAGE, { pairs: '7', seconds: '3', concurrency: '64' }, async (options): Promise<BenchResult> => {
  const pairs = positive('pairs', options.pairs);
  const seconds = positive('seconds', options.seconds);
  const concurrency = positive('concurrency', options.concurrency);
  const jaeger = await Jaeger.start();
  // A long queueing limit, because the load generator shares the machine.
  const common = { AQM_LOG_LEVEL: 'error', AQM_MAX_WAIT_MS: '60000' };
  const testBed = await TestBed.open({ postgresSettings: POSTGRES, env: common, targets: TARGETS, coinsPerTarget: 0 });
  const results = Object.fromEntries(VARIANTS.map((variant) => [variant, [] as Round[]])) as Record<Variant, Round[]>;
  try {
    const sampled = (share: string) => ({
      ...jaeger.env,
      OTEL_BSP_SCHEDULE_DELAY: '1000',
      OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
      OTEL_TRACES_SAMPLER_ARG: share,
    });
    const services: Record<Variant, ServiceProcess> = {
      off: testBed.service,
      'cut out': await testBed.spawnService({
        ...common,
        NODE_OPTIONS: `--require=${join(__dirname, 'without-telemetry.js')}`,
      }),
      'traces 1 %': await testBed.spawnService({ ...common, ...sampled('0.01') }),
      'traces 100 %': await testBed.spawnService({ ...common, ...sampled('1') }),
      metrics: await testBed.spawnService({
        ...common,
        OTEL_METRICS_EXPORTER: 'prometheus',
        OTEL_EXPORTER_PROMETHEUS_HOST: '127.0.0.1',
        OTEL_EXPORTER_PROMETHEUS_PORT: METRICS_PORT,
      }),
    };
    const [token = ''] = await testBed.tokens(1);
    const data = testBed.targets.map((target) => ({
      target_user_id: target,
      coin_category: BRONZE.category,
      count: 1,
    }));
    const run = async (variant: Variant): Promise<Round> => {
      const { address, child } = services[variant];
      const cpuMs = treeCpuMs(child.pid ?? 0);
      const call = 'aqm.coin.v1.CoinService/FetchCoins';
      const result = await runGhz({ address, call, token, data, concurrency, connections: 8, seconds });
      const failed = Object.keys(result.failures);
      if (failed.length > 0) throw new Error(`calls of the variant "${variant}" failed: ${failed.join()}`);
      const { count } = result.latency;
      return { perSecond: count / result.seconds, cpuUs: (1000 * (treeCpuMs(child.pid ?? 0) - cpuMs)) / count };
    };
    // The first round is a warm-up.
    for (let pair = -1; pair < pairs; pair += 1) {
      await testBed.stock([
        { spec: BRONZE, perUser: Math.ceil((MAX_PER_SECOND * seconds * VARIANTS.length) / TARGETS) },
      ]);
      await testBed.settle();
      // The order rotates, so that no variant always runs after the same one.
      const shift = (pair + VARIANTS.length) % VARIANTS.length;
      for (const variant of [...VARIANTS.slice(shift), ...VARIANTS.slice(0, shift)]) {
        const round = await run(variant);
        progress(
          `round ${pair + 1}, ${variant}: ${round.perSecond.toFixed(0)} fetches/s, ${round.cpuUs.toFixed(0)} µs per call`,
        );
        if (pair >= 0) results[variant].push(round);
      }
    }
  } finally {
    await testBed.close();
    await jaeger.stop();
  }
  return resultOf({ pairs, seconds, concurrency, postgres: POSTGRES }, results);
});

function resultOf(settings: object, results: Readonly<Record<Variant, readonly Round[]>>): BenchResult {
  const summary = VARIANTS.map((variant) => {
    const rates = results[variant].map(({ perSecond }) => perSecond);
    return {
      variant,
      perSecond: median(rates),
      from: Math.min(...rates),
      to: Math.max(...rates),
      // Relative to the adjacent round with telemetry off, because the speed of the machine drifts.
      ofOff: median(rates.map((rate, pair) => rate / (results.off[pair]?.perSecond ?? 0))),
      cpuUs: median(results[variant].map(({ cpuUs }) => cpuUs)),
    };
  });
  const ratioOf = (variant: Variant) => summary.find((each) => each.variant === variant)?.ofOff ?? 0;
  const percent = (ratio: number) => `${(100 * ratio).toFixed(1)} %`;
  return {
    name: 'tracing',
    table: columns([
      ['', 'fetches/s', 'of off', 'service µs'],
      ...summary.map(({ variant, perSecond, ofOff, cpuUs }) => [
        variant,
        perSecond.toFixed(0),
        percent(ofOff),
        cpuUs.toFixed(0),
      ]),
    ]),
    json: { settings, summary, rounds: results },
    svg: bars(
      'Fetches per second by telemetry: median and range of the rounds',
      summary.map(({ variant, perSecond, from, to }) => ({ name: variant, value: perSecond, from, to })),
      '/s',
    ),
    verdicts: [
      verdict(
        ratioOf('traces 1 %') >= 0.95,
        `sampling 1 % of the traces costs at most 5 % of throughput: ${percent(ratioOf('traces 1 %'))} of off`,
      ),
      verdict(
        ratioOf('cut out') <= 1.03,
        `telemetry that is off costs nothing: cut out of the code, throughput is ${percent(ratioOf('cut out'))} of off`,
      ),
      `all traces: ${percent(ratioOf('traces 100 %'))} of off`,
      `metrics: ${percent(ratioOf('metrics'))} of off`,
    ],
  };
}
