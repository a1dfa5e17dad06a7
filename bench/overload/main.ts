import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Call, Callers, closedLoop, openLoop } from '../service/callers';
import { Stage } from '../service/stage';
import { plot } from './plot';
import { distribution, type OverloadResult, phaseOf, table, verdicts } from './report';

const USAGE = `Usage: npm run bench -- overload [--seconds 60] [--times 5] [--out docs/performance]
  Lowers the capacity of a service by configuration, measures it, and then sends so many times as many calls, which come
  when they are due whatever becomes of the others. Exit code 1 when the service does not stand it.`;

/** One connection, to a PostgreSQL whose commits take 8 ms, as on a slow disk, and two fetches a statement. Everything else is as it ships. */
const POSTGRES = ['commit_delay=8000', 'commit_siblings=0'];
const SERVICE = { AQM_POOL_SIZE: '1', AQM_CLAIM_BATCH: '2' };
/** Twice AQM_MAX_WAIT_MS. */
const BOUND_MS = 1000;
/** Enough of them to keep the connection busy. */
const LANES = 16;
const CALLERS = 20;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '60' },
      times: { type: 'string', default: '5' },
      out: { type: 'string', default: 'docs/performance' },
    },
  });
  const [seconds, times] = [Number(values.seconds), Number(values.times)];
  if (!(seconds >= 1 && times >= 1)) throw new Error('--seconds and --times must be 1 or more');
  const stage = await Stage.open({
    postgresSettings: POSTGRES,
    env: { ...SERVICE, AQM_LOG_LEVEL: 'warn' },
    targets: 200,
    coinsPerTarget: 200 + seconds * 2,
  });
  const callers = new Callers(stage.service.address, await stage.tokens(CALLERS), stage.targets);
  try {
    await closedLoop(callers, LANES, 3000);
    const capacityMs = Math.min(10_000, seconds * 1000);
    const capacity = phaseOf(await closedLoop(callers, LANES, capacityMs), { perSecond: 0, ms: capacityMs }).goodput;
    const half = { perSecond: capacity / 2, ms: capacityMs };
    const overload = { perSecond: times * capacity, ms: seconds * 1000 };

    const logged = stage.service.log().length;
    const cpu: { readonly generator: number; readonly service: number }[] = [];
    const [calm = [], overloaded = [], again = []] = await openLoop(callers, [half, overload, half], () => {
      const { user, system } = process.cpuUsage();
      cpu.push({ generator: (user + system) / 1000, service: stage.serviceCpuMs() });
    });
    const cores = (of: 'generator' | 'service') => ((cpu[2]?.[of] ?? 0) - (cpu[1]?.[of] ?? 0)) / overload.ms;

    const before = phaseOf(calm, half);
    const result: OverloadResult = {
      settings: { ...SERVICE, PostgreSQL: POSTGRES.join(' ') },
      capacity,
      before,
      overload: phaseOf(overloaded, overload),
      after: phaseOf(again, half),
      shedByServer: distribution(shedDurations(stage.service.log().slice(logged))),
      recoveryMs: recoveryMs(again, 2 * before.answered.p99),
      cores: { generator: cores('generator'), service: cores('service') },
    };
    const sentences = verdicts(result, BOUND_MS);
    process.stdout.write(`${table(result)}\n${sentences.join('\n')}\n`);
    mkdirSync(values.out, { recursive: true });
    writeFileSync(
      join(values.out, 'overload.json'),
      `${JSON.stringify({ ...result, verdicts: sentences }, undefined, 1)}\n`,
    );
    writeFileSync(join(values.out, 'overload.svg'), plot(result));
    return sentences.some((sentence) => sentence.startsWith('NOT')) ? 1 : 0;
  } finally {
    callers.close();
    await stage.close();
  }
}

/** The service logs every call that it refuses, with the time from its arrival to its answer. */
function shedDurations(log: string): number[] {
  return log
    .split('\n')
    .filter((line) => line.includes('"UNAVAILABLE"'))
    .map((line) => (JSON.parse(line) as { durationMs: number }).durationMs);
}

/** When the last call was due that was not answered, or late, before a second without such. */
function recoveryMs(calls: readonly Call[], lateMs: number): number {
  let last = 0;
  for (const { at, ms, end } of [...calls].sort((a, b) => a.at - b.at)) {
    if (at - last > 1000) break;
    if (end !== 'answered' || ms > lateMs) last = at;
  }
  return last;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(error, `\n${USAGE}`);
    process.exit(1);
  },
);
