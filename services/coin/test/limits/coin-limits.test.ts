import { randomUUID } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import pino from 'pino';
import { CoinUploadResult_Outcome as Outcome } from '../../../../gen/aqm/coin/v1/coin_service';
import { CallError } from '../../../../testkit/call';
import { BRONZE, GOLD, ids, mint, SILVER } from '../../../../testkit/coins';
import { RedisServer } from '../../../../testkit/redis-server';
import { REPLICAS, startService, type TestService } from '../../../../testkit/service';
import { spawnService } from '../../../../testkit/service-process';
import type { User } from '../../../../testkit/user';
import { UNNAMED_DEVICE } from '../../coin';
import { type CoinRates, readConfig } from '../../config';
import { CoinLimits } from '../../limits/coin-limits';
import type { Limits } from '../../limits/limits';
import { MemoryLimits } from '../../limits/memory-limits';
import { RedisLimits } from '../../limits/redis-limits';
import type { CoinFetch } from '../../store/claim/fetch-coins';

const DEFAULT_RATES = readConfig({}).limits.rates;
const HIGH = { perHour: 1000, burst: 1000 };
/** Refills by one coin in an hour, so that no test sees it refill. */
const LOW = { perHour: 1, burst: 20 };
const WIDE: CoinRates = {
  perRequester: HIGH,
  perPair: HIGH,
  perTarget: HIGH,
  perUploader: HIGH,
  perReconciler: HIGH,
  perCaller: HIGH,
};
const HOUR_MS = 3_600_000;
const LIMITED = { code: 'RESOURCE_EXHAUSTED', reason: 'RATE_LIMITED' };

let service: TestService;
let bob: User;
let alice: User;

/** So long that a busy machine does not time out. */
const ANSWER_TIMEOUT_MS = 60_000;
const SILENT = pino({ level: 'silent' });
/** The Redis that several replicas share. */
let shared: RedisServer | undefined;
const opened: Limits[] = [];

/** Opens the budgets of each replica: in memory for a single one, in a shared Redis for several. */
async function budgets(): Promise<readonly Limits[]> {
  if (REPLICAS === 1) return [new MemoryLimits()];
  shared ??= await RedisServer.startInMemory();
  const { socket } = shared;
  const each = Array.from({ length: REPLICAS }, () => new RedisLimits(socket, SILENT, ANSWER_TIMEOUT_MS));
  opened.push(...each);
  // The first calls may arrive before the connection is open.
  for (const limits of each) while ((await limits.take([]).catch(() => 1)) !== 0) await setImmediate();
  return each;
}

async function start(rates: Partial<CoinRates>): Promise<void> {
  const limits = (await budgets()).map((each) => new CoinLimits(each, { ...WIDE, ...rates }));
  service = await startService({}, { limits });
  [bob, alice] = [await service.user(), await service.user()];
}
afterEach(async () => {
  await service.stop();
  for (const limits of opened.splice(0)) await limits.close();
});
afterAll(() => shared?.destroy());

const fetchRequest = (target: User, count: number, requestId = '') => ({
  targetUserId: target.id,
  coinCategory: BRONZE,
  count,
  requestId,
});
const stock = async () => (await bob.count()).available?.bronze;

describe('a requester over its limit', () => {
  beforeEach(() => start({ perRequester: LOW }));

  test('is refused with a retry delay and takes nothing, while others are served', async () => {
    await bob.upload(mint(50));
    await alice.fetch(fetchRequest(bob, 20));
    const refused: CallError = await alice.fetch(fetchRequest(bob, 3)).catch((error) => error);
    expect(refused).toMatchObject(LIMITED);
    // Three coins at one an hour, less what has refilled since.
    expect(refused.retryAfterMs).toBeGreaterThan(2 * HOUR_MS);
    expect(refused.retryAfterMs).toBeLessThanOrEqual(3 * HOUR_MS);
    expect(await stock()).toBe(30);
    expect((await bob.fetch(fetchRequest(bob, 20))).coins).toHaveLength(20);
  });

  test('is still answered when it repeats a fetch, and is not charged for it', async () => {
    await bob.upload(mint(50));
    const request = fetchRequest(bob, 20, randomUUID());
    const first = await alice.fetch(request);
    for (let n = 0; n < 3; n += 1) expect(await alice.fetch(request)).toEqual(first);
    await expect(alice.fetch(fetchRequest(bob, 1, randomUUID()))).rejects.toMatchObject(LIMITED);
    expect(await stock()).toBe(30);
  });

  test('gets an error for the batch items over the limit only; a repeat in the batch is answered', async () => {
    await bob.upload(mint(50));
    const known = fetchRequest(bob, 15, randomUUID());
    const first = await alice.fetch(known);
    const { results } = await alice.batchFetch([
      fetchRequest(bob, 5),
      known,
      fetchRequest(bob, 5, randomUUID()),
      fetchRequest(bob, 5),
    ]);
    expect(results.map(({ coins, error }) => error?.reason ?? coins.length)).toEqual([
      5,
      15,
      'RATE_LIMITED',
      'RATE_LIMITED',
    ]);
    expect(results[1]?.coins).toEqual(first.coins);
    expect(await stock()).toBe(30);
  });

  test('is charged once for two batch items with the same request_id', async () => {
    await bob.upload(mint(50));
    const request = fetchRequest(bob, 20, randomUUID());
    const { results } = await alice.batchFetch([request, request]);
    expect(results.map(({ coins }) => coins.length)).toEqual([20, 20]);
    expect(await stock()).toBe(30);
  });

  test('is not charged for coins that were not in stock', async () => {
    await bob.upload(mint(10));
    expect((await alice.fetch(fetchRequest(bob, 20))).coins).toHaveLength(10);
    for (let n = 0; n < 5; n += 1) expect((await alice.fetch(fetchRequest(bob, 10))).coins).toHaveLength(0);
    await bob.upload(mint(20));
    expect((await alice.fetch(fetchRequest(bob, 10))).coins).toHaveLength(10);
    await expect(alice.fetch(fetchRequest(bob, 1))).rejects.toMatchObject(LIMITED);
  });
});

test('a requester over its limit for one target can fetch from others, and others from that target', async () => {
  await start({ perPair: LOW });
  await bob.upload(mint(50));
  const carol = await service.user();
  await carol.upload(mint(50));
  await alice.fetch(fetchRequest(bob, 20));
  await expect(alice.fetch(fetchRequest(bob, 1))).rejects.toMatchObject(LIMITED);
  expect((await alice.fetch(fetchRequest(carol, 20))).coins).toHaveLength(20);
  expect((await carol.fetch(fetchRequest(bob, 20))).coins).toHaveLength(20);
});

test('50 requesters together get no more from one target than its limit', async () => {
  await start({ perTarget: DEFAULT_RATES.perTarget });
  for (let n = 0; n < 5; n += 1) await bob.upload(mint(100));
  const requesters = await Promise.all(Array.from({ length: 50 }, () => service.user()));
  const answers = await Promise.all(
    requesters.map((requester) =>
      requester.fetch(fetchRequest(bob, 10)).then(
        ({ coins }) => coins.length,
        (error: CallError) => error.reason,
      ),
    ),
  );
  expect(answers.filter((answer) => answer === 10)).toHaveLength(20);
  expect(answers.filter((answer) => answer === 'RATE_LIMITED')).toHaveLength(30);
  expect(await stock()).toBe(300);
});

test('uploads beyond the limit are refused; coins that were present already are not charged', async () => {
  await start({ perUploader: { perHour: 1, burst: 100 } });
  const coins = mint(60);
  await bob.upload(coins);
  for (let n = 0; n < 3; n += 1) {
    const { results } = await bob.upload(coins.slice(0, 40));
    expect(new Set(results.map(({ outcome }) => outcome))).toEqual(new Set([Outcome.OUTCOME_ALREADY_PRESENT]));
  }
  await expect(bob.upload(mint(41))).rejects.toMatchObject(LIMITED);
  expect(await stock()).toBe(60);
  await bob.upload(mint(40));
});

test('a reconcile over the limit is refused with a retry delay and retires nothing, while others are served', async () => {
  await start({ perReconciler: LOW });
  await bob.upload(mint(3));
  await service.age('coin_stock', 'upload_time', '2 minutes');
  for (let n = 0; n < 20; n += 1) await bob.reconcile({ coinCategory: BRONZE, keyIds: [randomUUID()] });
  const emptyVault = { coinCategory: BRONZE, complete: true, listedAt: new Date(Date.now() - 60_000) };
  const refused: CallError = await bob.reconcile(emptyVault).catch((error) => error);
  expect(refused).toMatchObject(LIMITED);
  expect(refused.retryAfterMs).toBeLessThanOrEqual(HOUR_MS);
  expect(await stock()).toBe(3);
  expect((await alice.reconcile(emptyVault)).retiredCount).toBe(0);
});

describe('with the default limits', () => {
  beforeEach(() => start(DEFAULT_RATES));

  /** The largest budgets of a contact: BESTIE and MATE (design of the device library). */
  const BESTIE = [
    [GOLD, 5],
    [SILVER, 4],
    [BRONZE, 1],
  ] as const;
  const MATE = [
    [SILVER, 6],
    [BRONZE, 4],
  ] as const;

  test.each([
    ['BESTIE', BESTIE],
    ['MATE', MATE],
  ])('the whole budgets of 100 contacts of priority %s are filled at once', async (_priority, budget) => {
    const contacts = Array.from({ length: 100 }, () => randomUUID());
    const [keyed] = mint(1);
    const claimed = async (fetches: readonly CoinFetch[]) =>
      fetches.map(({ count, coinCategory, onlyRemembered }) => ({
        coins: onlyRemembered ? [] : Array(count).fill({ ...keyed, coinCategory }),
        isRepeat: false,
      }));
    const limits = new CoinLimits(new MemoryLimits(), DEFAULT_RATES);
    const items = contacts.flatMap((targetUserId) =>
      budget.map(([coinCategory, count]) => ({
        targetUserId,
        deviceId: UNNAMED_DEVICE,
        coinCategory,
        count,
        requestId: randomUUID(),
        allowLowerCategories: false,
      })),
    );
    for (let from = 0; from < items.length; from += 50) {
      limits.calls?.admit(alice.id);
      const answers = await limits.fetch(alice.id, items.slice(from, from + 50), claimed);
      expect(answers.filter((answer) => 'error' in answer)).toEqual([]);
    }
  });

  test('a whole budget is filled also if all of it has to come from the lowest category', async () => {
    await bob.upload(mint(30));
    const requests = BESTIE.map(([coinCategory, count]) => {
      return { targetUserId: bob.id, coinCategory, count, requestId: randomUUID(), allowLowerCategories: true };
    });
    const { results } = await alice.batchFetch(requests);
    expect(results.map(({ coins }) => coins.length)).toEqual([5, 4, 1]);
    await expect(alice.fetch(fetchRequest(bob, 1))).rejects.toMatchObject(LIMITED);
  });

  test('a stranger cannot empty an average user, whichever categories it asks for', async () => {
    // The average user of docs/capacity.md.
    const stocked = () => bob.upload([...mint(2, GOLD), ...mint(4, SILVER), ...mint(24)]);
    for (const [count, allowLowerCategories] of [
      [20, true],
      [10, true],
      [10, false],
      [1, false],
    ] as const) {
      [bob, alice] = [await service.user(), await service.user()];
      await stocked();
      let taken = 0;
      for (const coinCategory of [GOLD, SILVER, BRONZE]) {
        for (let refused = false; !refused; ) {
          const request = { targetUserId: bob.id, coinCategory, count, allowLowerCategories };
          const { coins } = await alice.fetch(request).catch(() => ({ coins: [] }));
          taken += coins.length;
          refused = coins.length === 0;
        }
      }
      expect(taken).toBeGreaterThan(0);
      expect(taken).toBeLessThanOrEqual(20);
      const { available } = await bob.count();
      expect(available?.bronze).toBeGreaterThanOrEqual(10);
      // A friend is still served.
      const friend = await service.user();
      const request = { targetUserId: bob.id, coinCategory: GOLD, count: 5, allowLowerCategories: true };
      expect((await friend.fetch(request)).coins).toHaveLength(5);
    }
  });

  test('any fetch that the contract allows is possible once', async () => {
    await bob.upload(mint(30, GOLD));
    const request = { targetUserId: bob.id, coinCategory: GOLD, count: 20 };
    expect((await alice.fetch(request)).coins).toHaveLength(20);
    const refused: CallError = await alice.fetch({ ...request, count: 1 }).catch((error) => error);
    expect(refused).toMatchObject(LIMITED);
    // Ten coins are owed, at ten an hour.
    expect(refused.retryAfterMs).toBeGreaterThan(HOUR_MS);
  });
});

describe('limits in a Redis', () => {
  let redis: RedisServer;
  beforeEach(async () => {
    redis = await RedisServer.startInMemory();
  });
  afterEach(() => redis.destroy());

  test('refuse every call with a retryable error while it is unreachable', async () => {
    const limits = new CoinLimits(new RedisLimits(redis.socket, SILENT), WIDE);
    service = await startService({}, { limits: [limits] });
    [bob, alice] = [await service.user(), await service.user()];
    while (!(await bob.upload(mint(2)).catch(() => undefined))) await setImmediate();
    await redis.kill();
    const unavailable = { code: 'UNAVAILABLE', reason: 'LIMITS_UNAVAILABLE', retryAfterMs: 1000 };
    await expect(alice.fetch(fetchRequest(bob, 1, randomUUID()))).rejects.toMatchObject(unavailable);
    await expect(bob.upload(mint(1))).rejects.toMatchObject(unavailable);
    await expect(bob.reconcile({ coinCategory: BRONZE })).rejects.toMatchObject(unavailable);
    expect(await stock()).toBe(2);
    await redis.restart();
    while (!(await alice.fetch(fetchRequest(bob, 2)).catch(() => undefined))) await setImmediate();
    expect(await stock()).toBe(0);
    await limits.close();
  });

  test('let two servers together admit what a single one would', async () => {
    service = await startService();
    const env = { AQM_LIMITS: 'on', AQM_LIMITS_REDIS_URL: redis.socket, AQM_LIMIT_PER_PAIR: '1/100' };
    const servers = await Promise.all([spawnService(service, env), spawnService(service, env)]);
    try {
      for (;;) {
        const { coins, reasons } = await fetchFromBoth(servers.map(({ address }) => address));
        // A server that did not hear from Redis in time may have been charged. That round proves
        // nothing.
        if (reasons.includes('LIMITS_UNAVAILABLE')) continue;
        expect(new Set(coins).size).toBe(100);
        expect(reasons).toEqual(Array(20).fill('RATE_LIMITED'));
        break;
      }
    } finally {
      for (const { stop } of servers) await stop();
    }
  });

  /**
   * Sends 40 concurrent fetches of 5 coins of a new owner to these servers, for one new requester.
   */
  async function fetchFromBoth(addresses: readonly string[]): Promise<{ coins: string[]; reasons: string[] }> {
    [bob, alice] = [await service.user(), await service.user()];
    for (let n = 0; n < 3; n += 1) await bob.upload(mint(100));
    const callers = await Promise.all(addresses.map((address) => service.user({ id: alice.id, address })));
    const coins: string[] = [];
    const reasons: string[] = [];
    const fetchFive = async (caller: User | undefined): Promise<void> => {
      const answer = await caller?.fetch(fetchRequest(bob, 5)).catch((error: CallError) => error);
      if (answer instanceof CallError) reasons.push(answer.reason);
      else coins.push(...ids(answer?.coins ?? []));
    };
    await Promise.all(Array.from({ length: 40 }, (_, n) => fetchFive(callers[n % 2])));
    return { coins, reasons };
  }
});
