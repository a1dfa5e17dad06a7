import { randomUUID } from 'node:crypto';
import { type StoredCoin, UNNAMED_DEVICE } from '../../services/coin/coin';
import { readConfig } from '../../services/coin/config';
import { CoinLimits } from '../../services/coin/limits/coin-limits';
import { MemoryLimits } from '../../services/coin/limits/memory-limits';
import type { FetchAnswer } from '../../services/coin/store/claim/fetch-coins';
import { RedisServer } from '../../testkit/redis-server';
import { Callers, closedLoop } from '../harness/callers';
import { type BenchResult, runCommand } from '../harness/command';
import { median, positive } from '../harness/numbers';
import { TestBed } from '../harness/test-bed';

const USAGE = `Usage: npm run bench -- limits [--rounds 40] [--seconds 0.5] [--out docs/performance]

  Measures what rate limits cost a fetch. Compares, in interleaved rounds on one PostgreSQL,
  services that differ only in their limits: none, in the memory of the process, shared through
  Redis. Read the percentage: throughput relative to the service without limits in the same round.
  The last line gives the cost of the in-memory limits alone, in microseconds per fetch.`;

const VARIANTS = ['off', 'memory', 'redis'] as const;
type Variant = (typeof VARIANTS)[number];

/** Limits that are counted but never reached. */
const WIDE = {
  AQM_LIMITS: 'on',
  AQM_LIMIT_PER_REQUESTER: '100000000',
  AQM_LIMIT_PER_PAIR: '100000000',
  AQM_LIMIT_PER_TARGET: '100000000',
  AQM_LIMIT_PER_CALLER: '100000000',
};
const CALLERS = 16;
const CONCURRENCY = 32;
const TARGETS = 2000;

/**
 * Measures what the in-memory limits take per fetch, in microseconds of processor time, without the noise of a whole
 * service.
 */
async function costOfChargesUs(): Promise<number> {
  const { rates } = readConfig(WIDE).limits;
  const users = Array.from({ length: TARGETS }, () => randomUUID());
  const answer: FetchAnswer = { coins: [{} as StoredCoin], isRepeat: false };
  const claim = async () => answer;
  const spend = async (limits: CoinLimits, fetches: number): Promise<number> => {
    const start = performance.now();
    for (let n = 0; n < fetches; n += 1) {
      const fetch = {
        targetUserId: users[n % TARGETS] ?? '',
        deviceId: UNNAMED_DEVICE,
        count: 1,
        requestId: undefined,
      };
      await limits.fetchOne(
        users[n % CALLERS] ?? '',
        { ...fetch, coinCategory: 3, allowLowerCategories: false },
        claim,
      );
    }
    return (1000 * (performance.now() - start)) / fetches;
  };
  const extra: number[] = [];
  for (let round = 0; round < 15; round += 1) {
    const off = await spend(new CoinLimits(undefined, rates), 20_000);
    extra.push((await spend(new CoinLimits(new MemoryLimits(), rates), 20_000)) - off);
  }
  return median(extra);
}

runCommand(USAGE, { rounds: '40', seconds: '0.5' }, async (options): Promise<BenchResult> => {
  const [rounds, seconds] = [positive('rounds', options.rounds), positive('seconds', options.seconds)];
  const redis = await RedisServer.startInMemory();
  const testBed = await TestBed.open({
    env: { AQM_LIMITS: 'off', AQM_LOG_LEVEL: 'error' },
    targets: TARGETS,
    coinsPerTarget: Math.ceil(((rounds + 1) * VARIANTS.length * seconds * 4000) / TARGETS),
  });
  const tokens = await testBed.tokens(CALLERS);
  const callers = new Map<Variant, Callers>();
  try {
    for (const variant of VARIANTS) {
      const env = { off: {}, memory: WIDE, redis: { ...WIDE, AQM_LIMITS_REDIS_URL: redis.socket } }[variant];
      const address = variant === 'off' ? testBed.service.address : await testBed.addService(env);
      callers.set(variant, new Callers(address, tokens, testBed.targets));
    }
    const perSecond: Record<Variant, number[]> = { off: [], memory: [], redis: [] };
    const cpuMs: Record<Variant, number[]> = { off: [], memory: [], redis: [] };
    for (let round = -1; round < rounds; round += 1) {
      // The order rotates, so that no variant always runs after the same one.
      const shift = (round + VARIANTS.length) % VARIANTS.length;
      for (const variant of [...VARIANTS.slice(shift), ...VARIANTS.slice(0, shift)]) {
        const before = testBed.serviceCpuMs();
        const calls = await closedLoop(callers.get(variant) as Callers, CONCURRENCY, seconds * 1000);
        const failed = calls.find(({ outcome }) => outcome !== 'answered');
        if (failed) throw new Error(`a call of the variant "${variant}" failed: ${failed.outcome}`);
        // The first round is a warm-up.
        if (round < 0) continue;
        perSecond[variant].push(calls.length / seconds);
        cpuMs[variant].push((testBed.serviceCpuMs() - before) / calls.length);
      }
    }
    const result = VARIANTS.map((variant) => ({
      limits: variant,
      perSecond: median(perSecond[variant]),
      // Relative to the adjacent round without limits, because the speed of the machine drifts.
      ofThatWithout: median(perSecond[variant].map((rate, round) => rate / (perSecond.off[round] ?? 0))),
      serviceCpuUsPerCall: 1000 * median(cpuMs[variant]),
      rounds: perSecond[variant],
    }));
    const costUs = await costOfChargesUs();
    const share = (100 * costUs) / (result[0]?.serviceCpuUsPerCall ?? 0);
    const table = [
      `${CONCURRENCY} concurrent calls, medians of ${rounds} interleaved rounds of ${seconds} s`,
      ...result.map(
        ({ limits, perSecond, ofThatWithout, serviceCpuUsPerCall }) =>
          `limits ${limits.padEnd(8)} ${perSecond.toFixed(0).padStart(6)} fetches/s  ${(100 * ofThatWithout).toFixed(1)} %  ${serviceCpuUsPerCall.toFixed(0)} µs of service processor time per call`,
      ),
      `in-memory limits alone: ${costUs.toFixed(1)} µs per fetch, ${share.toFixed(1)} % of the service processor time per call`,
    ].join('\n');
    const json = { concurrency: CONCURRENCY, seconds, result, memoryCostUs: costUs };
    return { name: 'limits', table, json, verdicts: [] };
  } finally {
    for (const each of callers.values()) each.close();
    await testBed.close();
    await redis.destroy();
  }
});
