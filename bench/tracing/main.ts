import { join } from 'node:path';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { Jaeger } from '../../testkit/jaeger';
import type { ServiceProcess } from '../../testkit/service-process';
import { bars } from '../service/bars';
import { type Outcome, runCommand } from '../service/command';
import { runGhz } from '../service/ghz';
import { columns, median, positive, progress, verdict } from '../service/numbers';
import { treeCpuMs } from '../service/processor';
import { Stage } from '../service/stage';

const USAGE = `Usage: npm run bench -- tracing [--pairs 7] [--seconds 3] [--concurrency 64] [--out docs/performance]
  Fetches of one coin from ghz against services that differ in their telemetry alone, by turns: with it cut out of the code, off, on with
  1 % of the traces, with all of them, and with metrics. A Jaeger takes the traces. Each round is held against the one that is off
  beside it. Exit code 1 when 1 % costs more than 5 % of throughput.`;

const ARMS = ['cut out', 'off', 'traces 1 %', 'traces 100 %', 'metrics'] as const;
type Arm = (typeof ARMS)[number];
const [, , BRONZE] = COIN_CATEGORIES;
const TARGETS = 1000;
/** More than any arm does. */
const MAX_PER_SECOND = 9000;
const POSTGRES = ['shared_buffers=512MB', 'max_wal_size=4GB', 'checkpoint_timeout=1h'];
const METRICS_PORT = '19464';

interface Round {
  readonly perSecond: number;
  readonly cpuUs: number;
}

runCommand(USAGE, { pairs: '7', seconds: '3', concurrency: '64' }, async (options): Promise<Outcome> => {
  const pairs = positive('pairs', options.pairs);
  const seconds = positive('seconds', options.seconds);
  const concurrency = positive('concurrency', options.concurrency);
  const jaeger = await Jaeger.start();
  // With patience, for a machine that is busy with its own load generator.
  const common = { AQM_LOG_LEVEL: 'error', AQM_MAX_WAIT_MS: '60000' };
  const stage = await Stage.open({ postgresSettings: POSTGRES, env: common, targets: TARGETS, coinsPerTarget: 0 });
  const results = Object.fromEntries(ARMS.map((arm) => [arm, [] as Round[]])) as Record<Arm, Round[]>;
  try {
    const sampled = (share: string) => ({
      ...jaeger.env,
      OTEL_BSP_SCHEDULE_DELAY: '1000',
      OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
      OTEL_TRACES_SAMPLER_ARG: share,
    });
    const services: Record<Arm, ServiceProcess> = {
      off: stage.service,
      'cut out': await stage.spawnService({
        ...common,
        NODE_OPTIONS: `--require=${join(__dirname, 'without-telemetry.js')}`,
      }),
      'traces 1 %': await stage.spawnService({ ...common, ...sampled('0.01') }),
      'traces 100 %': await stage.spawnService({ ...common, ...sampled('1') }),
      metrics: await stage.spawnService({
        ...common,
        OTEL_METRICS_EXPORTER: 'prometheus',
        OTEL_EXPORTER_PROMETHEUS_HOST: '127.0.0.1',
        OTEL_EXPORTER_PROMETHEUS_PORT: METRICS_PORT,
      }),
    };
    const [token = ''] = await stage.tokens(1);
    const data = stage.targets.map((target) => ({ target_user_id: target, coin_category: BRONZE.category, count: 1 }));
    const run = async (arm: Arm): Promise<Round> => {
      const { address, child } = services[arm];
      const cpuMs = treeCpuMs(child.pid ?? 0);
      const call = 'aqm.coin.v1.CoinService/FetchCoins';
      const result = await runGhz({ address, call, token, data, concurrency, connections: 8, seconds });
      const failed = Object.keys(result.failures);
      if (failed.length > 0) throw new Error(`calls of the arm "${arm}" ended with ${failed.join()}`);
      const { count } = result.latency;
      return { perSecond: count / result.seconds, cpuUs: (1000 * (treeCpuMs(child.pid ?? 0) - cpuMs)) / count };
    };
    // The first round only warms up.
    for (let pair = -1; pair < pairs; pair += 1) {
      await stage.stock([{ spec: BRONZE, perUser: Math.ceil((MAX_PER_SECOND * seconds * ARMS.length) / TARGETS) }]);
      await stage.settle();
      // The order changes, so that none always runs on what another left warm.
      const shift = (pair + ARMS.length) % ARMS.length;
      for (const arm of [...ARMS.slice(shift), ...ARMS.slice(0, shift)]) {
        const round = await run(arm);
        progress(
          `round ${pair + 1}, ${arm}: ${round.perSecond.toFixed(0)} fetches/s, ${round.cpuUs.toFixed(0)} µs a call`,
        );
        if (pair >= 0) results[arm].push(round);
      }
    }
  } finally {
    await stage.close();
    await jaeger.stop();
  }
  return outcomeOf({ pairs, seconds, concurrency, postgres: POSTGRES }, results);
});

function outcomeOf(settings: object, results: Readonly<Record<Arm, readonly Round[]>>): Outcome {
  const summary = ARMS.map((arm) => {
    const rates = results[arm].map(({ perSecond }) => perSecond);
    return {
      arm,
      perSecond: median(rates),
      from: Math.min(...rates),
      to: Math.max(...rates),
      // Each round against the one beside it, so that both met the same mood of the machine.
      ofOff: median(rates.map((rate, pair) => rate / (results.off[pair]?.perSecond ?? 0))),
      cpuUs: median(results[arm].map(({ cpuUs }) => cpuUs)),
    };
  });
  const ratioOf = (arm: Arm) => summary.find((each) => each.arm === arm)?.ofOff ?? 0;
  const percent = (ratio: number) => `${(100 * ratio).toFixed(1)} %`;
  return {
    name: 'tracing',
    table: columns([
      ['', 'fetches/s', 'of off', 'service µs'],
      ...summary.map(({ arm, perSecond, ofOff, cpuUs }) => [
        arm,
        perSecond.toFixed(0),
        percent(ofOff),
        cpuUs.toFixed(0),
      ]),
    ]),
    json: { settings, summary, rounds: results },
    svg: bars(
      'Fetches a second by what telemetry does: median of the rounds, and what they spanned',
      summary.map(({ arm, perSecond, from, to }) => ({ name: arm, value: perSecond, from, to })),
      '/s',
    ),
    verdicts: [
      verdict(
        ratioOf('traces 1 %') >= 0.95,
        `1 % of the traces costs at most 5 %: ${percent(ratioOf('traces 1 %'))} of off`,
      ),
      verdict(
        ratioOf('cut out') <= 1.03,
        `off costs nothing: cut out of the code it is ${percent(ratioOf('cut out'))} of off`,
      ),
      `all of the traces: ${percent(ratioOf('traces 100 %'))} of off`,
      `metrics: ${percent(ratioOf('metrics'))} of off`,
    ],
  };
}
