import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { chart } from '../service/chart';
import { BATCH_USAGE, batchOf, type Outcome, runCommand } from '../service/command';
import { columns, median, positive, progress, verdict } from '../service/numbers';
import { treeResidentMiB } from '../service/processor';
import { Stage } from '../service/stage';
import { Crowd } from '../users/spawn-crowd';

const USAGE = `Usage: npm run bench -- memory [--minutes 10] [--users 10000] [--rate 500] ${BATCH_USAGE} [--out docs/performance]
  Resident memory of the service: alone, with so many connected users who have each made a call, and then every few seconds of a
  load by them in open loop (so many fetches a second). Settings of the environment reach the service. Exit code 1 when it grows.`;

const SPEC = COIN_CATEGORIES[0];
const TARGETS = 1000;
const POSTGRES = ['shared_buffers=1GB', 'max_wal_size=8GB', 'checkpoint_timeout=1h'];
/** Of one stretch of load, after which memory is read and coins are brought. */
const STRETCH_MS = 5000;
/** What the last third of the run may have more than the one before, which is past the warming up. */
const MAX_GROWTH = 1.1;

interface Reading {
  /** Since the load began, in seconds. */
  readonly at: number;
  readonly mib: number;
}

runCommand(USAGE, { minutes: '10', users: '10000', rate: '500', batch: '' }, async (options): Promise<Outcome> => {
  const [minutes, users] = [positive('minutes', options.minutes), positive('users', options.users)];
  const perSecond = positive('rate', options.rate);
  const stage = await Stage.open({
    postgresSettings: POSTGRES,
    // A user calls every 20 s on average, and among so many one may not for five minutes, after which the service ends a connection.
    env: { AQM_LOG_LEVEL: 'error', AQM_IDLE_TIMEOUT_MS: '3600000', ...batchOf(options.batch) },
    targets: TARGETS,
    coinsPerTarget: Math.ceil((2 * users) / TARGETS) + 20,
    spec: SPEC,
  });
  const crowd = new Crowd();
  const memory = () => treeResidentMiB(stage.service.child.pid ?? 0);
  const readings: Reading[] = [];
  const ends: Record<string, number> = {};
  let lost = 0;
  try {
    const alone = memory();
    const targets = { ids: stage.targets, category: SPEC.category };
    await crowd.connect(stage.service.address, await stage.tokens(users), targets);
    await crowd.order({ do: 'greet' });
    const connected = memory();
    progress(`${alone.toFixed(0)} MiB alone, ${connected.toFixed(0)} MiB with ${users} users`);
    const begin = performance.now();
    for (let at = 0; at < minutes * 60; at = (performance.now() - begin) / 1000) {
      const perUser = Math.ceil((1.3 * perSecond * STRETCH_MS) / 1000 / TARGETS) + 1;
      await stage.stock([{ spec: SPEC, perUser }]);
      const load = await crowd.order({ do: 'load', perSecond, ms: STRETCH_MS });
      for (const [end, calls] of Object.entries(load.ends)) ends[end] = (ends[end] ?? 0) + calls;
      lost = load.lostConnections;
      readings.push({ at: (performance.now() - begin) / 1000, mib: memory() });
      if (readings.length % 12 === 0) progress(`${at.toFixed(0)} s: ${readings.at(-1)?.mib.toFixed(0)} MiB`);
    }
    const settings = { minutes, users, perSecond, ...batchOf(options.batch), tier: SPEC.name, postgres: POSTGRES };
    return outcomeOf(settings, { alone, connected }, readings, { ends, lost });
  } finally {
    crowd.close();
    await stage.close();
  }
});

function outcomeOf(
  settings: { readonly users: number; readonly minutes: number; readonly [name: string]: unknown },
  { alone, connected }: { readonly alone: number; readonly connected: number },
  readings: readonly Reading[],
  calls: { readonly ends: Readonly<Record<string, number>>; readonly lost: number },
): Outcome {
  const third = Math.ceil(readings.length / 3);
  const of = (some: readonly Reading[]) => median(some.map(({ mib }) => mib));
  const [middle, last] = [of(readings.slice(third, 2 * third)), of(readings.slice(2 * third))];
  const growth = middle > 0 ? last / middle : Number.NaN;
  const perThousand = ((connected - alone) * 1000) / settings.users;
  const { answered = 0, ...others } = calls.ends;
  return {
    name: 'memory',
    table: columns([
      ['memory of the service', 'MiB'],
      ['alone', alone.toFixed(0)],
      [`with ${settings.users} users, each after a call`, connected.toFixed(0)],
      ['for 1,000 of them', perThousand.toFixed(1)],
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
        `memory is flat over ${settings.minutes} minutes: in the last third ${growth.toFixed(2)} times that of the second`,
      ),
      verdict(
        Object.keys(others).length === 0 && calls.lost === 0,
        `${answered} calls were answered with a coin, and every connection was held: ${JSON.stringify(others)} otherwise, ${calls.lost} lost`,
      ),
    ],
  };
}
