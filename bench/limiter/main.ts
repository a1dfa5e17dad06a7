import { createRequire } from 'node:module';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Redis } from 'ioredis';
import pino from 'pino';
import type { Rate } from '../../services/coin/config';
import type { Charge, Limits } from '../../services/coin/limits/limits';
import { MemoryLimits } from '../../services/coin/limits/memory-limits';
import { RedisLimits } from '../../services/coin/limits/redis-limits';
import { RedisServer } from '../../testkit/redis-server';
import { median } from '../harness/numbers';

const USAGE = `Usage: npm run bench -- limiter [--rounds 21] [--seconds 0.3] [--library FOLDER]
  Measures limits/: three budgets are charged per fetch, and a part is refunded. In memory one fetch at a time, in Redis
  32 at a time. With --library, rate-limiter-flexible does the same, interleaved. FOLDER is where it was installed:
  npm install --prefix FOLDER rate-limiter-flexible. The figures are medians of the rounds.`;

/** One variant: charges three budgets for a fetch of 10 coins, and refunds 5 of them. */
type ChargeFetch = (requester: number, target: number) => Promise<unknown>;

/** The part of rate-limiter-flexible that is used here. */
interface Limiter {
  consume(key: string, points: number): Promise<unknown>;
  reward(key: string, points: number): Promise<unknown>;
}
interface Library {
  readonly RateLimiterMemory: new (options: object) => Limiter;
  readonly RateLimiterRedis: new (options: object) => Limiter;
}

/** So large that no charge is refused. */
const RATE: Rate = { perHour: 1_000_000_000, burst: 1_000_000_000 };
const REQUESTERS = 16;
const TARGETS = 2000;
const CONCURRENCY = 32;
const BUDGETS = ['requester', 'pair', 'target'];

function keysOf(requester: number, target: number): readonly [string, string, string] {
  return [`r${requester}`, `p${requester}:${target}`, `t${target}`];
}

function ourLimits(limits: Limits): ChargeFetch {
  const chargesOf = (keys: readonly string[], amount: number): Charge[] =>
    keys.map((budget) => ({ budget, rate: RATE, amount }));
  return async (requester, target) => {
    const keys = keysOf(requester, target);
    await limits.take(chargesOf(keys, 10));
    await limits.refund(chargesOf(keys, 5));
  };
}

function libraryLimits(Class: new (options: object) => Limiter, storeClient?: Redis): ChargeFetch {
  const limiters = BUDGETS.map(
    (keyPrefix) => new Class({ storeClient, keyPrefix, points: RATE.burst, duration: 3600 }),
  );
  return async (requester, target) => {
    const keys = keysOf(requester, target);
    await Promise.all(limiters.map((limiter, index) => limiter.consume(keys[index] ?? '', 10)));
    await Promise.all(limiters.map((limiter, index) => limiter.reward(keys[index] ?? '', 5)));
  };
}

interface Usage {
  readonly commands: number;
  readonly cpuUs: number;
}

/** One round. CPU times are per fetch, in microseconds. */
interface Sample {
  readonly perSecond: number;
  readonly cpuUs: number;
  /** Commands sent to Redis per fetch. */
  readonly commands: number;
  readonly redisCpuUs: number;
}

/** Runs fetches for a while. */
async function run(chargeFetch: ChargeFetch, concurrency: number, ms: number, redis?: Redis): Promise<Sample> {
  const usage = redis && (await usageOf(redis));
  const start = performance.now();
  const cpu = process.cpuUsage();
  let fetches = 0;
  const loop = async (): Promise<void> => {
    while (performance.now() - start < ms) {
      fetches += 1;
      await chargeFetch(fetches % REQUESTERS, (fetches * 7) % TARGETS);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, loop));
  const elapsedMs = performance.now() - start;
  const { user, system } = process.cpuUsage(cpu);
  const used = redis && (await usageOf(redis));
  return {
    perSecond: (1000 * fetches) / elapsedMs,
    cpuUs: (user + system) / fetches,
    commands: ((used?.commands ?? 0) - (usage?.commands ?? 0)) / fetches,
    redisCpuUs: ((used?.cpuUs ?? 0) - (usage?.cpuUs ?? 0)) / fetches,
  };
}

/** Returns how many scripts Redis has run for clients, and its CPU time in microseconds. */
async function usageOf(redis: Redis): Promise<Usage> {
  const [commands, cpu] = await Promise.all([redis.info('commandstats'), redis.info('cpu')]);
  const seconds = (name: string) => Number(new RegExp(`used_cpu_${name}:([\\d.]+)`).exec(cpu)?.[1]);
  return {
    commands: Number(/cmdstat_evalsha:calls=(\d+)/.exec(commands)?.[1] ?? 0),
    cpuUs: 1e6 * (seconds('user') + seconds('sys')),
  };
}

/**
 * Measures the variants in interleaved rounds and prints the medians. The first round only warms
 * up.
 */
async function compare(
  title: string,
  variants: ReadonlyMap<string, ChargeFetch>,
  concurrency: number,
  { rounds, ms }: { readonly rounds: number; readonly ms: number },
  redis?: Redis,
): Promise<void> {
  const samples = new Map([...variants.keys()].map((name) => [name, [] as Sample[]]));
  const names = [...variants.keys()];
  for (let round = -1; round < rounds; round += 1) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const sample = await run(variants.get(name) as ChargeFetch, concurrency, ms, redis);
      if (round >= 0) samples.get(name)?.push(sample);
    }
  }
  process.stdout.write(`${title}\n`);
  for (const [name, all] of samples) {
    const of = (field: keyof Sample) => median(all.map((sample) => sample[field]));
    const ofRedis = redis && `, ${of('commands').toFixed(1)} commands, ${of('redisCpuUs').toFixed(1)} µs CPU of Redis`;
    const figures = `${of('perSecond').toFixed(0).padStart(7)} fetches/s, ${of('cpuUs').toFixed(1).padStart(6)} µs CPU`;
    process.stdout.write(`  ${name.padEnd(22)} ${figures} per fetch${ofRedis ?? ''}\n`);
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '21' },
      seconds: { type: 'string', default: '0.3' },
      library: { type: 'string' },
    },
  });
  const [rounds, ms] = [Number(values.rounds), 1000 * Number(values.seconds)];
  if (!(rounds >= 1 && ms > 0)) throw new Error('--rounds and --seconds must be positive');
  const library: Library | undefined =
    values.library === undefined
      ? undefined
      : createRequire(join(process.cwd(), 'main.js'))(join(values.library, 'node_modules/rate-limiter-flexible'));

  const inMemory = new Map([['limits/', ourLimits(new MemoryLimits())]]);
  if (library) inMemory.set('rate-limiter-flexible', libraryLimits(library.RateLimiterMemory));
  await compare('in memory', inMemory, 1, { rounds, ms });

  const server = await RedisServer.start('--save', '', '--appendonly', 'no');
  const path = server.url.replace('unix://', '');
  const limits = new RedisLimits(path, pino({ level: 'silent' }), 60_000);
  const client = server.client();
  try {
    while ((await limits.take([]).catch(() => -1)) !== 0) await new Promise((resolve) => setImmediate(resolve));
    const inRedis = new Map([['limits/', ourLimits(limits)]]);
    if (library) inRedis.set('rate-limiter-flexible', libraryLimits(library.RateLimiterRedis, client));
    await compare(`in Redis, ${CONCURRENCY} at a time`, inRedis, CONCURRENCY, { rounds, ms }, server.client());
  } finally {
    await limits.close();
    await server.destroy();
  }
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    console.error(error, `\n${USAGE}`);
    process.exit(1);
  },
);
