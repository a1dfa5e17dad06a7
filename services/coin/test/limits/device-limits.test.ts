import { randomUUID } from 'node:crypto';
import { BRONZE, mint } from '../../../../testkit/coins';
import { startService, type TestService } from '../../../../testkit/service';
import type { User } from '../../../../testkit/user';
import { toDeviceText } from '../../coin';
import { type CoinRates, readConfig } from '../../config';
import { CoinLimits } from '../../limits/coin-limits';
import { MemoryLimits } from '../../limits/memory-limits';

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
const LIMITED = { devices: [], error: { reason: 'RATE_LIMITED' } };

let service: TestService;
let bob: User;
let alice: User;
let devices: string[];

async function start(rates: Partial<CoinRates>): Promise<void> {
  service = await startService(
    {},
    { replicas: 1, limits: [new CoinLimits(new MemoryLimits(), { ...WIDE, ...rates })] },
  );
  [bob, alice] = [await service.user(), await service.user()];
  devices = Array.from({ length: 3 }, () => randomUUID()).sort();
  for (const deviceId of devices) await bob.upload(mint(50), '', deviceId);
}
afterEach(() => service.stop());

const item = (count: number, requestId = '') => ({ targetUserId: bob.id, coinCategory: BRONZE, count, requestId });
async function ask(count: number, requestId = '', user = alice) {
  const { results } = await user.fetchDevices([item(count, requestId)]);
  return results[0];
}
async function coinsOf(count: number, requestId = ''): Promise<number | undefined> {
  return (await ask(count, requestId))?.devices.flatMap(({ coins }) => coins).length;
}

describe('a requester is charged for every coin', () => {
  beforeEach(() => start({ perRequester: LOW }));

  test('also for those of devices that were not known before: it waits until they are paid', async () => {
    expect(await coinsOf(5)).toBe(15);
    // Of the 20 coins 5 are left, which is the charge before.
    expect(await coinsOf(5)).toBe(15);
    const refused = await ask(1);
    expect(refused).toMatchObject(LIMITED);
    const waitMs = Number(refused?.error?.retryDelay?.seconds ?? 0) * 1000;
    expect(waitMs).toBeGreaterThan(9 * HOUR_MS);
    expect(waitMs).toBeLessThanOrEqual(11 * HOUR_MS);
    await expect(
      alice.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 1, deviceId: devices[0] ?? '' }),
    ).rejects.toMatchObject({ reason: 'RATE_LIMITED' });
    expect((await ask(1, '', bob))?.devices).toHaveLength(3);
  });

  test('but not for a repeat, which is answered, nor for a list of the devices', async () => {
    const requestId = randomUUID();
    expect(await coinsOf(7, requestId)).toBe(21);
    expect(await coinsOf(7, requestId)).toBe(21);
    expect(await ask(1, randomUUID())).toMatchObject(LIMITED);
    expect((await ask(0))?.devices.map(({ deviceId }) => deviceId)).toEqual(devices);
  });

  test('but not for coins that were not in stock', async () => {
    const unknown = { targetUserId: randomUUID(), coinCategory: BRONZE, count: 20 };
    for (let call = 0; call < 3; call += 1) {
      expect((await alice.fetchDevices([unknown])).results).toEqual([{ devices: [], error: undefined }]);
    }
    expect(await coinsOf(2)).toBe(6);
  });

  test('and pays for named devices before', async () => {
    const named = { ...item(7), deviceIds: devices };
    expect((await alice.fetchDevices([{ ...named, count: 6 }])).results[0]?.devices).toHaveLength(3);
    expect((await alice.fetchDevices([{ ...named, count: 1 }])).results[0]).toMatchObject(LIMITED);
    expect((await alice.fetchDevices([{ ...named, deviceIds: devices.slice(0, 2), count: 1 }])).results[0]?.error).toBe(
      undefined,
    );
  });
});

test.each(['perPair', 'perTarget'] as const)('the limit %s counts the coins of a device', async (limit) => {
  await start({ [limit]: LOW });
  expect(await coinsOf(15)).toBe(45);
  expect(await coinsOf(5)).toBe(15);
  expect(await ask(1)).toMatchObject(LIMITED);
  // A fetch of one device has a budget of its own, for each device.
  const single = { targetUserId: bob.id, coinCategory: BRONZE, count: 20 };
  for (const deviceId of devices.slice(0, 2)) {
    expect((await alice.fetch({ ...single, deviceId })).coins).toHaveLength(20);
    await expect(alice.fetch({ ...single, deviceId, count: 1 })).rejects.toMatchObject({ reason: 'RATE_LIMITED' });
  }
});

test('an item over a limit fails alone', async () => {
  await start({ perPair: LOW });
  const carol = await service.user();
  await carol.upload(mint(3));
  expect(await coinsOf(20)).toBe(60);
  const { results } = await alice.fetchDevices([item(1), { ...item(1), targetUserId: carol.id }]);
  expect(results[0]).toMatchObject(LIMITED);
  expect(results[1]?.devices.map(({ coins }) => coins.length)).toEqual([1]);
});

test('each five devices cost as much as one call more', async () => {
  await start({ perCaller: { perHour: 1, burst: 3 } });
  // The owner has made 3 calls, and the other two users none.
  expect((await ask(0))?.devices).toHaveLength(3);
  for (const deviceId of Array.from({ length: 20 }, () => randomUUID())) {
    await service.store.uploadCoins(
      { userId: alice.id, deviceId },
      mint(1).map((coin) => ({ ...coin, deviceId: toDeviceText(deviceId) })),
      '',
    );
  }
  const own = { targetUserId: alice.id, coinCategory: BRONZE, count: 1 };
  expect((await alice.fetchDevices([own])).results[0]?.devices).toHaveLength(20);
  // 1 and 1 + 19 / 5 of 3 calls.
  await expect(alice.fetchDevices([own])).rejects.toMatchObject({ reason: 'RATE_LIMITED' });
});

test('a sender to groups of 100 users with 3 devices each is within the default limits', async () => {
  service = await startService(
    {},
    { replicas: 1, limits: [new CoinLimits(new MemoryLimits(), readConfig({}).limits.rates)] },
  );
  alice = await service.user();
  const members = Array.from({ length: 100 }, () => randomUUID());
  for (const userId of members) {
    for (const deviceId of [randomUUID(), randomUUID(), randomUUID()]) {
      const coins = mint(3).map((coin) => ({ ...coin, deviceId }));
      await service.store.uploadCoins({ userId, deviceId }, coins, '');
    }
  }
  const call = (count: number, from: number) =>
    alice.fetchDevices(
      members
        .slice(from, from + 50)
        .map((targetUserId) => ({ targetUserId, coinCategory: BRONZE, count, requestId: randomUUID() })),
    );
  for (let message = 0; message < 3; message += 1) {
    for (const from of [0, 50]) {
      const { results } = await call(1, from);
      expect(results.flatMap(({ devices: found }) => found).map(({ coins }) => coins.length)).toEqual(
        Array(150).fill(1),
      );
    }
  }
});
