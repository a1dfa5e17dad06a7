import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { renameSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import pino from 'pino';
import { BRONZE } from '../../../../testkit/coins';
import { freePorts } from '../../../../testkit/free-port';
import { RedisServer } from '../../../../testkit/redis-server';
import { type StoredCoin, UNNAMED_DEVICE } from '../../coin';
import { type Rate, readConfig } from '../../config';
import { CoinLimits } from '../../limits/coin-limits';
import { type Charge, type Limits, refillMs } from '../../limits/limits';
import { MemoryLimits } from '../../limits/memory-limits';
import { RedisLimits } from '../../limits/redis-limits';

/** So long that a busy machine does not time out. */
const ANSWER_TIMEOUT_MS = 60_000;
const SILENT = pino({ level: 'silent' });
/** Refills by one in an hour, so that no test sees it refill. */
const SLOW: Rate = { perHour: 1, burst: 200 };
/** Refills by one in 1 ms. */
const FAST: Rate = { perHour: 3_600_000, burst: 50 };

let redis: RedisServer;
beforeAll(async () => {
  redis = await RedisServer.startInMemory();
});
afterAll(() => redis.destroy());

/** Takes the charges; tries again while there is no connection to Redis yet. */
async function takeWhenConnected(limits: Limits, charges: readonly Charge[] = []): Promise<void> {
  while ((await limits.take(charges).catch(() => 1)) !== 0) await setImmediate();
}

describe.each([
  ['in memory', () => new MemoryLimits()],
  ['in Redis', () => new RedisLimits(redis.socket, SILENT, ANSWER_TIMEOUT_MS)],
])('budgets %s', (_where, open) => {
  let limits: Limits;
  beforeEach(async () => {
    limits = open();
    await takeWhenConnected(limits);
  });
  afterEach(() => limits.close());

  const charge = (amount: number, budget = randomUUID() as string, rate = SLOW): Charge => ({ budget, rate, amount });

  test('a full budget gives its burst and no more, and returns the time until the charge fits', async () => {
    const budget = randomUUID();
    expect(await limits.take([charge(150, budget)])).toBe(0);
    expect(await limits.take([charge(50, budget)])).toBe(0);
    const waitMs = await limits.take([charge(10, budget)]);
    expect(waitMs).toBeGreaterThan(refillMs(SLOW, 9));
    expect(waitMs).toBeLessThanOrEqual(refillMs(SLOW, 10));
  });

  test('what is owed delays later charges until it has refilled', async () => {
    const budget = randomUUID();
    expect(await limits.take([charge(150, budget)])).toBe(0);
    await limits.owe([charge(100, budget), charge(10)]);
    const waitMs = await limits.take([charge(1, budget)]);
    expect(waitMs).toBeGreaterThan(refillMs(SLOW, 50));
    expect(waitMs).toBeLessThanOrEqual(refillMs(SLOW, 51));
    await limits.refund([charge(51, budget)]);
    expect(await limits.take([charge(1, budget)])).toBe(0);
  });

  test('no budget is charged if one of several has too little', async () => {
    const [rich, poor] = [randomUUID(), randomUUID()];
    await limits.take([charge(195, poor)]);
    expect(await limits.take([charge(200, rich), charge(10, poor)])).toBeGreaterThan(0);
    expect(await limits.take([charge(200, rich)])).toBe(0);
    expect(await limits.take([charge(5, poor)])).toBe(0);
  });

  test('a charge larger than the burst is taken from a full budget only, which then takes longer to refill', async () => {
    const [budget, other] = [randomUUID(), randomUUID()];
    expect(await limits.take([charge(300, budget)])).toBe(0);
    const waitMs = await limits.take([charge(1, budget)]);
    expect(waitMs).toBeGreaterThan(refillMs(SLOW, 100));
    expect(waitMs).toBeLessThanOrEqual(refillMs(SLOW, 101));
    await limits.take([charge(1, other)]);
    expect(await limits.take([charge(300, other)])).toBeGreaterThan(0);
  });

  test('a refund can be taken again, and never fills a budget beyond its burst', async () => {
    const budget = randomUUID();
    await limits.take([charge(200, budget)]);
    await limits.refund([charge(20, budget)]);
    expect(await limits.take([charge(21, budget)])).toBeGreaterThan(0);
    expect(await limits.take([charge(20, budget)])).toBe(0);
    await limits.refund([charge(200, budget)]);
    await limits.refund([charge(200, budget)]);
    expect(await limits.take([charge(200, budget)])).toBe(0);
    expect(await limits.take([charge(1, budget)])).toBeGreaterThan(0);
  });

  test('a budget refills over time, up to its burst', async () => {
    const budget = randomUUID();
    let taken = 0;
    const start = performance.now();
    while (taken < 300) if ((await limits.take([charge(1, budget, FAST)])) === 0) taken += 1;
    // 300 coins are the burst plus the refill. Without a limit they would be granted at once.
    // This is a lower bound, so a slow machine cannot break it.
    expect(performance.now() - start).toBeGreaterThanOrEqual(refillMs(FAST, 300 - FAST.burst) - 1);
  });

  test('of many concurrent charges exactly as many succeed as fit', async () => {
    const budget = randomUUID();
    const answers = await Promise.all(Array.from({ length: 60 }, () => limits.take([charge(10, budget)])));
    expect(answers.filter((waitMs) => waitMs === 0)).toHaveLength(20);
  });
});

test('budgets in memory are removed when they are full again', async () => {
  let now = 0;
  const limits = new MemoryLimits(() => now);
  const takeFromEach = async (name: string) => {
    for (let n = 0; n < 10_000; n += 1) await limits.take([{ budget: `${name}${n}`, rate: SLOW, amount: 1 }]);
  };
  await takeFromEach('a');
  expect(limits.size).toBe(10_000);
  now += refillMs(SLOW, 1);
  await takeFromEach('b');
  expect(limits.size).toBe(10_000);
});

test('a whole burst can be taken at any clock value', async () => {
  const odd: Rate = { perHour: 7, burst: 200 };
  for (let nowMs = 1.1; nowMs < 1e9; nowMs *= 1.013) {
    const limits = new MemoryLimits(() => nowMs);
    for (const rate of [SLOW, odd]) {
      expect(await limits.take([{ budget: `${rate.perHour}`, rate, amount: 200 }])).toBe(0);
      await limits.refund([{ budget: `${rate.perHour}`, rate, amount: 200 }]);
      expect(await limits.take([{ budget: `${rate.perHour}`, rate, amount: 200 }])).toBe(0);
      expect(await limits.take([{ budget: `${rate.perHour}`, rate, amount: 1 }])).toBeGreaterThan(0);
    }
  }
});

describe('several servers with one Redis', () => {
  test('together admit what a single server would', async () => {
    const servers = Array.from({ length: 3 }, () => new RedisLimits(redis.socket, SILENT, ANSWER_TIMEOUT_MS));
    await Promise.all(servers.map((server) => takeWhenConnected(server)));
    const budget = randomUUID();
    const answers = await Promise.all(
      Array.from({ length: 90 }, (_, n) => servers[n % 3]?.take([{ budget, rate: SLOW, amount: 10 }])),
    );
    expect(answers.filter((waitMs) => waitMs === 0)).toHaveLength(20);
    for (const server of servers) await server.close();
  });

  test.each(['killed', 'frozen'])('admit nothing while Redis is %s, and admit again when it is back', async (state) => {
    const own = await RedisServer.startInMemory();
    const limits = new RedisLimits(own.socket, SILENT);
    const charge: Charge = { budget: 'a', rate: SLOW, amount: 1 };
    await takeWhenConnected(limits, [charge]);
    if (state === 'killed') await own.kill();
    else own.freeze();
    await expect(limits.take([charge])).rejects.toMatchObject({ reason: 'LIMITS_UNAVAILABLE', retryAfterMs: 1000 });
    // A failed refund does not fail the call.
    await limits.refund([charge]);
    await own.kill();
    await own.restart();
    await takeWhenConnected(limits, [charge]);
    await limits.close();
    await own.destroy();
  });

  test('reach the new primary after a failover behind one name', async () => {
    const [old, fresh] = [await RedisServer.startInMemory(), await RedisServer.startInMemory()];
    const charge: Charge = { budget: 'a', rate: SLOW, amount: 1 };
    const limits = new RedisLimits(old.socket, SILENT, ANSWER_TIMEOUT_MS);
    await takeWhenConnected(limits, [charge]);
    await old.client().call('replicaof', '127.0.0.1', '1');
    renameSync(fresh.socket, old.socket);
    await takeWhenConnected(limits, [charge]);
    await limits.close();
    await Promise.all([old.destroy(), fresh.destroy()]);
  });

  test('admit nothing if the database of the URL does not exist, and count in no other one', async () => {
    const [port = 0] = await freePorts(1);
    const small = await RedisServer.start('--appendonly', 'no', '--databases', '1', '--port', String(port));
    const lines = new PassThrough();
    const limits = new RedisLimits(`redis://127.0.0.1:${port}/3`, pino(lines), ANSWER_TIMEOUT_MS);
    const [line] = await once(lines, 'data');
    expect(String(line)).toContain('cannot reach the rate-limit Redis');
    const charge: Charge = { budget: 'a', rate: SLOW, amount: 1 };
    for (let tries = 0; tries < 100; tries += 1) {
      await setImmediate();
      await expect(limits.take([charge])).rejects.toMatchObject({ reason: 'LIMITS_UNAVAILABLE' });
    }
    await limits.close();
    expect(await small.client().dbsize()).toBe(0);
    await small.destroy();
  });
});

test('a fetch over the limit that has no request_id costs no statement; one with an id is looked up', async () => {
  const limits = new CoinLimits(new MemoryLimits(), {
    ...readConfig({}).limits.rates,
    perRequester: { perHour: 1, burst: 20 },
  });
  const fetchOf = (requestId?: string) => ({
    targetUserId: randomUUID(),
    deviceId: UNNAMED_DEVICE,
    coinCategory: BRONZE,
    count: 20,
    requestId,
    allowLowerCategories: false,
  });
  const coins = Array.from({ length: 20 }, () => ({ coinCategory: BRONZE }) as StoredCoin);
  const one = jest.fn(async () => ({ coins, isRepeat: false }));
  const many = jest.fn(async (fetches: readonly unknown[]) => fetches.map(() => ({ coins: [], isRepeat: false })));
  await limits.fetchOne('alice', fetchOf(), one);
  one.mockClear();
  expect(await limits.fetchOne('alice', fetchOf(), one)).toMatchObject({ error: { reason: 'RATE_LIMITED' } });
  expect(one).not.toHaveBeenCalled();
  expect(await limits.fetch('alice', [fetchOf(), fetchOf()], many)).toMatchObject(
    Array(2).fill({ error: { reason: 'RATE_LIMITED' } }),
  );
  expect(many).not.toHaveBeenCalled();
  const known = fetchOf(randomUUID());
  expect(await limits.fetch('alice', [fetchOf(), known, fetchOf()], many)).toMatchObject(
    Array(3).fill({ error: { reason: 'RATE_LIMITED' } }),
  );
  expect(many.mock.calls).toEqual([[[{ ...known, onlyRemembered: true }]]]);
});
