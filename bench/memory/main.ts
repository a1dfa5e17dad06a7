import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { chart } from '../harness/chart';
import { BATCH_USAGE, type BenchResult, batchOf, runCommand } from '../harness/command';
import { columns, median, positive, progress, verdict } from '../harness/numbers';
import { treeResidentMiB } from '../harness/processor';
import { TestBed } from '../harness/test-bed';
import { LoadGenerator } from '../users/spawn-load-generator';

const USAGE = `Usage: npm run bench -- memory [--minutes 10] [--users 10000] [--rate 500] ${BATCH_USAGE}
                               [--out docs/performance]

  Measures the resident memory of the service: idle, with connected users who have made one call
  each, and then every 5 seconds under open-loop load. Compares the last third of the run with the
  second third: more than 1.1 times as much counts as growth. Settings in the environment reach the
  service. Exit code 1: memory grew, a call failed or a connection was lost.`;

const SPEC = COIN_CATEGORIES[0];
const TARGETS = 1000;
const POSTGRES = ['shared_buffers=1GB', 'max_wal_size=8GB', 'checkpoint_timeout=1h'];
/** The length of one interval of load. After each, memory is read and the stock is filled up. */
const INTERVAL_MS = 5000;
/** The maximum ratio of the last third of the run to the second third, which is past the warm-up. */
const MAX_GROWTH = 1.1;

interface Reading {
  /** Seconds since the load began. */
  readonly at: number;
  readonly mib: number;
}

runCommand(USAGE, { minutes: '10', users: '10000', rate: '500', batch: '' }, async (options): Promise<BenchResult> => {
  const [minutes, users] = [positive('minutes', options.minutes), positive('users', options.users)];
  const perSecond = positive('rate', options.rate);
  const testBed = await TestBed.open({
    postgresSettings: POSTGRES,
    // A user calls every 20 s on average. Among so many, some may be idle for five minutes, the default idle timeout.
    env: { AQM_LOG_LEVEL: 'error', AQM_IDLE_TIMEOUT_MS: '3600000', ...batchOf(options.batch) },
    targets: TARGETS,
    coinsPerTarget: Math.ceil((2 * users) / TARGETS) + 20,
    spec: SPEC,
  });
  const generator = new LoadGenerator();
  const memory = () => treeResidentMiB(testBed.service.child.pid ?? 0);
  const readings: Reading[] = [];
  const outcomes: Record<string, number> = {};
  let lost = 0;
  try {
    const alone = memory();
    const targets = { ids: testBed.targets, category: SPEC.category };
    await generator.connect(testBed.service.address, await testBed.tokens(users), targets);
    await generator.run({ do: 'greet' });
    const connected = memory();
    progress(`${alone.toFixed(0)} MiB idle, ${connected.toFixed(0)} MiB with ${users} users`);
    const begin = performance.now();
    for (let at = 0; at < minutes * 60; at = (performance.now() - begin) / 1000) {
      const perUser = Math.ceil((1.3 * perSecond * INTERVAL_MS) / 1000 / TARGETS) + 1;
      await testBed.stock([{ spec: SPEC, perUser }]);
      const load = await generator.run({ do: 'load', perSecond, ms: INTERVAL_MS });
      for (const [outcome, calls] of Object.entries(load.outcomes))
        outcomes[outcome] = (outcomes[outcome] ?? 0) + calls;
      lost = load.lostConnections;
      readings.push({ at: (performance.now() - begin) / 1000, mib: memory() });
      if (readings.length % 12 === 0) progress(`${at.toFixed(0)} s: ${readings.at(-1)?.mib.toFixed(0)} MiB`);
    }
    const settings = { minutes, users, perSecond, ...batchOf(options.batch), tier: SPEC.name, postgres: POSTGRES };
    return resultOf(settings, { alone, connected }, readings, { outcomes, lost });
  } finally {
    generator.close();
    await testBed.close();
  }
});

function resultOf(
  settings: { readonly users: number; readonly minutes: number; readonly [name: string]: unknown },
  { alone, connected }: { readonly alone: number; readonly connected: number },
  readings: readonly Reading[],
  calls: { readonly outcomes: Readonly<Record<string, number>>; readonly lost: number },
): BenchResult {
  const third = Math.ceil(readings.length / 3);
  const of = (some: readonly Reading[]) => median(some.map(({ mib }) => mib));
  const [middle, last] = [of(readings.slice(third, 2 * third)), of(readings.slice(2 * third))];
  const growth = middle > 0 ? last / middle : Number.NaN;
  const perThousand = ((connected - alone) * 1000) / settings.users;
  const { answered = 0, ...others } = calls.outcomes;
  return {
    name: 'memory',
    table: columns([
      ['memory of the service', 'MiB'],
      ['idle', alone.toFixed(0)],
      [`with ${settings.users} connected users, after one call each`, connected.toFixed(0)],
      ['per 1,000 users', perThousand.toFixed(1)],
      ['under load, first third (median)', of(readings.slice(0, third)).toFixed(0)],
      ['under load, second third', middle.toFixed(0)],
      ['under load, last third', last.toFixed(0)],
    ]),
    json: { settings, alone, connected, perThousand, growth, calls, readings },
    svg: chart({ title: 'Resident memory of the service under load, in MiB', x: 'seconds' }, [
      { name: 'resident', points: readings.map(({ at, mib }) => [Math.round(at), mib] as const) },
    ]),
    verdicts: [
      verdict(
        growth <= MAX_GROWTH,
        `memory is flat over ${settings.minutes} minutes: the last third has ${growth.toFixed(2)} times the memory of the second`,
      ),
      verdict(
        Object.keys(others).length === 0 && calls.lost === 0,
        `every call was answered with a coin (${answered}) and every connection stayed open: other outcomes ${JSON.stringify(others)}, ${calls.lost} connections lost`,
      ),
    ],
  };
}
