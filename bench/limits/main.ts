import { randomUUID } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { StoredCoin } from '../../services/coin/coin';
import { readConfig } from '../../services/coin/config';
import { CoinLimits } from '../../services/coin/limits/coin-limits';
import { MemoryLimits } from '../../services/coin/limits/memory-limits';
import type { FetchAnswer } from '../../services/coin/store/claim/fetch-coins';
import { RedisServer } from '../../testkit/redis-server';
import { Callers, closedLoop } from '../service/callers';
import { Stage } from '../service/stage';

const USAGE = `Usage: npm run bench -- limits [--rounds 40] [--seconds 0.5] [--out docs/performance]
  Fetches a second of services that differ in their limits alone, on one PostgreSQL, in rounds by turns: without limits, with
  those of one process, with those that are shared through a Redis.`;

const ARMS = ['off', 'memory', 'redis'] as const;
type Arm = (typeof ARMS)[number];

/** Counted like any, and met by nobody. */
const WIDE = {
  AQM_LIMITS: 'on',
  AQM_LIMIT_PER_REQUESTER: '100000000',
  AQM_LIMIT_PER_PAIR: '100000000',
  AQM_LIMIT_PER_TARGET: '100000000',
};
const CALLERS = 16;
const LANES = 32;
const TARGETS = 2000;

/** What the limits of one process take of a fetch, in microseconds of its processor, without the noise of everything else. */
async function costOfChargesUs(): Promise<number> {
  const { rates } = readConfig(WIDE).limits;
  const users = Array.from({ length: TARGETS }, () => randomUUID());
  const answer: FetchAnswer = { coins: [{} as StoredCoin], isRepeat: false };
  const claim = async () => answer;
  const spend = async (limits: CoinLimits, fetches: number): Promise<number> => {
    const start = performance.now();
    for (let n = 0; n < fetches; n += 1) {
      const fetch = { targetUserId: users[n % TARGETS] ?? '', count: 1, requestId: undefined };
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

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '40' },
      seconds: { type: 'string', default: '0.5' },
      out: { type: 'string', default: 'docs/performance' },
    },
  });
  const [rounds, seconds] = [Number(values.rounds), Number(values.seconds)];
  if (!(rounds >= 1 && seconds > 0)) throw new Error('--rounds and --seconds must be positive');
  const redis = await RedisServer.startInMemory();
  const stage = await Stage.open({
    env: { AQM_LIMITS: 'off', AQM_LOG_LEVEL: 'error' },
    targets: TARGETS,
    coinsPerTarget: Math.ceil(((rounds + 1) * ARMS.length * seconds * 4000) / TARGETS),
  });
  const tokens = await stage.tokens(CALLERS);
  const callers = new Map<Arm, Callers>();
  try {
    for (const arm of ARMS) {
      const env = { off: {}, memory: WIDE, redis: { ...WIDE, AQM_LIMITS_REDIS_URL: redis.socket } }[arm];
      const address = arm === 'off' ? stage.service.address : await stage.addService(env);
      callers.set(arm, new Callers(address, tokens, stage.targets));
    }
    const perSecond: Record<Arm, number[]> = { off: [], memory: [], redis: [] };
    const cpuMs: Record<Arm, number[]> = { off: [], memory: [], redis: [] };
    for (let round = -1; round < rounds; round += 1) {
      // The order changes, so that none always runs on what another left warm.
      const shift = (round + ARMS.length) % ARMS.length;
      for (const arm of [...ARMS.slice(shift), ...ARMS.slice(0, shift)]) {
        const before = stage.serviceCpuMs();
        const calls = await closedLoop(callers.get(arm) as Callers, LANES, seconds * 1000);
        const failed = calls.find(({ end }) => end !== 'answered');
        if (failed) throw new Error(`a call of the arm "${arm}" ended with ${failed.end}`);
        // The first round only warms up.
        if (round < 0) continue;
        perSecond[arm].push(calls.length / seconds);
        cpuMs[arm].push((stage.serviceCpuMs() - before) / calls.length);
      }
    }
    const result = ARMS.map((arm) => ({
      limits: arm,
      perSecond: median(perSecond[arm]),
      // Each round against the one without limits beside it, so that both met the same mood of the machine.
      ofThatWithout: median(perSecond[arm].map((rate, round) => rate / (perSecond.off[round] ?? 0))),
      serviceCpuUsPerCall: 1000 * median(cpuMs[arm]),
      rounds: perSecond[arm],
    }));
    process.stdout.write(`${LANES} calls at a time, medians of ${rounds} rounds of ${seconds} s by turns\n`);
    for (const { limits, perSecond, ofThatWithout, serviceCpuUsPerCall } of result) {
      process.stdout.write(
        `limits ${limits.padEnd(8)} ${perSecond.toFixed(0).padStart(6)} fetches/s  ${(100 * ofThatWithout).toFixed(1)} %  ${serviceCpuUsPerCall.toFixed(0)} µs of the service's processor time a call\n`,
      );
    }
    const costUs = await costOfChargesUs();
    const share = (100 * costUs) / (result[0]?.serviceCpuUsPerCall ?? 0);
    process.stdout.write(
      `the charges of one fetch in memory, measured alone: ${costUs.toFixed(1)} µs, ${share.toFixed(1)} % of the service's processor time a call\n`,
    );
    mkdirSync(values.out, { recursive: true });
    writeFileSync(
      join(values.out, 'limits.json'),
      `${JSON.stringify({ lanes: LANES, seconds, result, memoryCostUs: costUs }, undefined, 1)}\n`,
    );
  } finally {
    for (const each of callers.values()) each.close();
    await stage.close();
    await redis.destroy();
  }
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    console.error(error, `\n${USAGE}`);
    process.exit(1);
  },
);
