import { type Call, Callers, closedLoop, openLoop } from '../harness/callers';
import { type BenchResult, runCommand } from '../harness/command';
import { positive } from '../harness/numbers';
import { TestBed } from '../harness/test-bed';
import { plot } from './plot';
import { distribution, type OverloadResult, phaseOf, table, verdicts } from './report';

const USAGE = `Usage: npm run bench -- overload [--seconds 60] [--times 5] [--out docs/performance]

  Measures how the service behaves under overload. Its capacity is lowered by configuration and
  measured; then open-loop load follows at half of capacity, at --times capacity, and at half of
  capacity again. Compares throughput, latency and rejections of the three phases: under overload,
  goodput should stay near capacity, admitted calls fast, and rejections immediate. Exit code 1: the
  service fails under the load.`;

/**
 * One connection to a PostgreSQL whose commits take 8 ms, as on a slow disk, and two fetches per statement. All else is
 * default.
 */
const POSTGRES = ['commit_delay=8000', 'commit_siblings=0'];
const SERVICE = { AQM_POOL_SIZE: '1', AQM_CLAIM_BATCH: '2' };
/** The maximum p99 latency of admitted calls: twice the default of AQM_MAX_WAIT_MS. */
const BOUND_MS = 1000;
/** Enough concurrent calls to keep the connection busy. */
const CONCURRENCY = 16;
const CALLERS = 20;

runCommand(USAGE, { seconds: '60', times: '5' }, async (options): Promise<BenchResult> => {
  const [seconds, times] = [positive('seconds', options.seconds), positive('times', options.times)];
  if (!(seconds >= 1 && times >= 1)) throw new Error('--seconds and --times must be 1 or more');
  const testBed = await TestBed.open({
    postgresSettings: POSTGRES,
    env: { ...SERVICE, AQM_LOG_LEVEL: 'warn' },
    targets: 200,
    coinsPerTarget: 200 + seconds * 2,
  });
  const callers = new Callers(testBed.service.address, await testBed.tokens(CALLERS), testBed.targets);
  try {
    await closedLoop(callers, CONCURRENCY, 3000);
    const capacityMs = Math.min(10_000, seconds * 1000);
    const capacity = phaseOf(await closedLoop(callers, CONCURRENCY, capacityMs), {
      perSecond: 0,
      ms: capacityMs,
    }).goodput;
    const half = { perSecond: capacity / 2, ms: capacityMs };
    const overload = { perSecond: times * capacity, ms: seconds * 1000 };

    const logged = testBed.service.log().length;
    const cpu: { readonly generator: number; readonly service: number }[] = [];
    const [calm = [], overloaded = [], again = []] = await openLoop(callers, [half, overload, half], () => {
      const { user, system } = process.cpuUsage();
      cpu.push({ generator: (user + system) / 1000, service: testBed.serviceCpuMs() });
    });
    const cores = (of: 'generator' | 'service') => ((cpu[2]?.[of] ?? 0) - (cpu[1]?.[of] ?? 0)) / overload.ms;

    const before = phaseOf(calm, half);
    const result: OverloadResult = {
      settings: { ...SERVICE, PostgreSQL: POSTGRES.join(' ') },
      capacity,
      before,
      overload: phaseOf(overloaded, overload),
      after: phaseOf(again, half),
      rejectedByServer: distribution(rejectionDurations(testBed.service.log().slice(logged))),
      recoveryMs: recoveryMs(again, 2 * before.answered.p99),
      cores: { generator: cores('generator'), service: cores('service') },
    };
    return {
      name: 'overload',
      table: table(result, times),
      json: result,
      svg: plot(result),
      verdicts: verdicts(result, BOUND_MS),
    };
  } finally {
    callers.close();
    await testBed.close();
  }
});

/** Reads from the service log how long each refused call took, from its arrival to its answer, in milliseconds. */
function rejectionDurations(log: string): number[] {
  return log
    .split('\n')
    .filter((line) => line.includes('"UNAVAILABLE"'))
    .map((line) => (JSON.parse(line) as { durationMs: number }).durationMs);
}

/**
 * Returns when the service had recovered, in milliseconds: the due time of the last failed or late call before the
 * first full second without one.
 */
function recoveryMs(calls: readonly Call[], lateMs: number): number {
  let last = 0;
  for (const { at, ms, outcome } of [...calls].sort((a, b) => a.at - b.at)) {
    if (at - last > 1000) break;
    if (outcome !== 'answered' || ms > lateMs) last = at;
  }
  return last;
}
