import { status } from '@grpc/grpc-js';
import type { FetchDeviceCoinsRequest } from '../../../gen/aqm/coin/v1/coin_service';
import { DAY, type Fixture, HOUR, inventoryCoin, keyId, withFixture } from '../../conformance/harness';
import { type DeviceFetch, type DeviceStorage, fetchForDevices, fetchOnDemand, type InventoryCoin } from '../../index';
import { eachBackend } from '../each-backend';
import { ScriptedCoinService } from './scripted-coin-service';

const backend = eachBackend();
const wish = { contactId: 'bob', userId: keyId(1000), coinCategory: 'GOLD' } as const;
const PHONE = keyId(0xa);
const LAPTOP = keyId(0xb);
const TABLET = keyId(0xc);

function withService(test: (fixture: Fixture, service: ScriptedCoinService) => Promise<void>): Promise<void> {
  return withFixture(backend.harness, async (fixture) => {
    const service = await ScriptedCoinService.start();
    service.devices = [PHONE, LAPTOP];
    try {
      await test(fixture, service);
    } finally {
      service.stop();
    }
  });
}

/** Returns the items of each FetchDeviceCoins call. */
const calls = (service: ScriptedCoinService) =>
  service.requests<FetchDeviceCoinsRequest>('fetchDeviceCoins').map(({ requests }) => requests);
const shown = (found: readonly DeviceFetch[]) =>
  found.map(({ deviceId = '', coin, error }) => [deviceId, coin?.keyId ?? error?.name ?? null]);
/** Returns the storage as it is for a process that dies in a step. */
function dyingIn(storage: DeviceStorage, step: 'openOnDemand' | 'settleOnDemand', when: 'before' | 'after') {
  const work = storage.pendingRequests[step] as (...args: unknown[]) => Promise<unknown>;
  const die = async (...args: unknown[]) => {
    if (when === 'after') await work(...args);
    throw new Error('The process dies.');
  };
  return { ...storage, pendingRequests: { ...storage.pendingRequests, [step]: die } };
}

backend.describe('fetching for the devices of a contact', () => {
  it('returns one coin for each device, in the order of their ids, and keeps none', () =>
    withService(async ({ storage, clock }, service) => {
      service.devices = [LAPTOP, PHONE, ''];
      service.add(1, 2, 'GOLD', clock.in(DAY), PHONE);
      service.add(10, 2, 'SILVER', clock.in(DAY), LAPTOP);
      const found = await fetchForDevices(storage, service.access, { ...wish, allowLowerCategories: true });
      const silver = inventoryCoin(10, clock.in(DAY), { coinCategory: 'SILVER', deviceId: LAPTOP });
      expect(found).toStrictEqual([
        { coin: null },
        { deviceId: PHONE, coin: inventoryCoin(1, clock.in(DAY), { deviceId: PHONE }) },
        { deviceId: LAPTOP, coin: silver },
      ]);
      expect(calls(service)).toMatchObject([
        [{ targetUserId: wish.userId, count: 1, deviceIds: [], allowLowerCategories: true }],
      ]);
      expect(await storage.inventory.getTotalStorageBytes()).toBe(0);
      expect(service.stock).toHaveLength(2);
      const without = await fetchForDevices(storage, service.access, wish);
      expect(shown(without)).toStrictEqual([
        ['', null],
        [PHONE, keyId(2)],
        [LAPTOP, null],
      ]);
    }));

  it('returns nothing for a contact without devices', () =>
    withService(async ({ storage }, service) => {
      service.devices = [];
      expect(await fetchForDevices(storage, service.access, wish)).toStrictEqual([]);
    }));

  it('fetches for the named devices only, and leaves out those that the contact does not have', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(1, 1, 'GOLD', clock.in(DAY), PHONE);
      service.add(10, 1, 'GOLD', clock.in(DAY), LAPTOP);
      const deviceIds = [TABLET, LAPTOP.toUpperCase(), ''];
      const found = await fetchForDevices(storage, service.access, { ...wish, deviceIds });
      expect(shown(found)).toStrictEqual([[LAPTOP, keyId(10)]]);
      expect(calls(service)).toMatchObject([[{ deviceIds: ['', LAPTOP, TABLET] }]]);
    }));

  it('gets the coins of a lost reply after a restart, by the same request', () =>
    withService(async ({ storage, open, clock }, service) => {
      service.add(1, 2, 'GOLD', clock.in(DAY), PHONE);
      service.add(10, 2, 'GOLD', clock.in(DAY), LAPTOP);
      service.failNext('fetchDeviceCoins', 'after', { code: status.DEADLINE_EXCEEDED });
      await expect(fetchForDevices(storage, service.access, wish)).rejects.toMatchObject({
        code: status.DEADLINE_EXCEEDED,
      });
      await storage.close();
      const reopened = await open();
      const one = await fetchForDevices(reopened, service.access, { ...wish, deviceIds: [PHONE] });
      expect(shown(one)).toStrictEqual([[PHONE, keyId(2)]]);
      const found = await fetchForDevices(reopened, service.access, wish);
      expect(shown(found)).toStrictEqual([
        [PHONE, keyId(1)],
        [LAPTOP, keyId(10)],
      ]);
      const [[lost] = [], , [resumed] = []] = calls(service);
      expect(resumed).toEqual(lost);
      expect(shown(await fetchForDevices(reopened, service.access, wish))).toStrictEqual([
        [PHONE, null],
        [LAPTOP, keyId(11)],
      ]);
    }));

  it.each([
    ['openOnDemand', 'after'],
    ['settleOnDemand', 'before'],
  ] as const)('loses no coin after a crash in %s, %s it is done', (step, when) =>
    withService(async ({ storage, open, clock }, service) => {
      service.add(1, 1, 'GOLD', clock.in(DAY), PHONE);
      service.add(10, 1, 'GOLD', clock.in(DAY), LAPTOP);
      await expect(fetchForDevices(dyingIn(storage, step, when), service.access, wish)).rejects.toThrow('dies');
      await storage.close();
      const found = await fetchForDevices(await open(), service.access, wish);
      expect(shown(found)).toStrictEqual([
        [PHONE, keyId(1)],
        [LAPTOP, keyId(10)],
      ]);
      const [first, last] = [calls(service)[0]?.[0], calls(service).at(-1)?.[0]];
      expect(last?.requestId).toBe(first?.requestId);
    }),
  );

  it('uses no coin twice after a crash between the end of the request and the return of its coins', () =>
    withService(async ({ storage, open, clock }, service) => {
      service.add(1, 2, 'GOLD', clock.in(DAY), PHONE);
      service.add(10, 2, 'GOLD', clock.in(DAY), LAPTOP);
      const dying = dyingIn(storage, 'settleOnDemand', 'after');
      await expect(fetchForDevices(dying, service.access, wish)).rejects.toThrow('The process dies.');
      const reopened = await open();
      await reopened.inventory.setPriority('bob', 'BESTIE');
      for (const [n, deviceId] of [
        [1, PHONE],
        [10, LAPTOP],
      ] as const) {
        expect(await reopened.inventory.storeKey(inventoryCoin(n, clock.in(DAY), { deviceId }))).toBe(false);
      }
      const found = await fetchForDevices(reopened, service.access, wish);
      expect(shown(found)).toStrictEqual([
        [PHONE, keyId(2)],
        [LAPTOP, keyId(11)],
      ]);
    }));

  it('addresses no device that was removed since the request was first sent', () =>
    withService(async ({ storage, open, clock }, service) => {
      service.add(1, 2, 'GOLD', clock.in(DAY), PHONE);
      service.add(10, 2, 'GOLD', clock.in(DAY), LAPTOP);
      service.failNext('fetchDeviceCoins', 'after');
      await expect(fetchForDevices(storage, service.access, wish)).rejects.toThrow();
      service.remove(LAPTOP);
      const reopened = await open();
      expect(shown(await fetchForDevices(reopened, service.access, wish))).toStrictEqual([[PHONE, keyId(1)]]);
      expect(calls(service)[1]).toMatchObject([{ count: 1 }, { count: 0, requestId: '', deviceIds: [] }]);
      await reopened.inventory.setPriority('bob', 'BESTIE');
      expect(await reopened.inventory.storeKey(inventoryCoin(10, clock.in(DAY), { deviceId: LAPTOP }))).toBe(false);
    }));

  it('fetches for a device that came since the request was first sent, and for one that had no coin then', () =>
    withService(async ({ storage, open, clock }, service) => {
      service.add(1, 1, 'GOLD', clock.in(DAY), PHONE);
      service.failNext('fetchDeviceCoins', 'after');
      await expect(fetchForDevices(storage, service.access, wish)).rejects.toThrow();
      service.devices = [PHONE, LAPTOP, TABLET];
      service.add(10, 1, 'GOLD', clock.in(DAY), LAPTOP);
      service.add(20, 1, 'GOLD', clock.in(DAY), TABLET);
      const found = await fetchForDevices(await open(), service.access, wish);
      expect(shown(found)).toStrictEqual([
        [PHONE, keyId(1)],
        [LAPTOP, keyId(10)],
        [TABLET, keyId(20)],
      ]);
      expect(calls(service)[2]).toMatchObject([{ count: 1, deviceIds: [LAPTOP, TABLET] }]);
    }));

  it('returns the coins of a resumed request also if the fetch for the other devices fails', () =>
    withService(async ({ storage, open, clock }, service) => {
      service.add(1, 1, 'GOLD', clock.in(DAY), PHONE);
      service.failNext('fetchDeviceCoins', 'after');
      await expect(fetchForDevices(storage, service.access, wish)).rejects.toThrow();
      let made = 0;
      service.during.fetchDeviceCoins = () => {
        made += 1;
        if (made === 2) throw { code: status.RESOURCE_EXHAUSTED, reason: 'RATE_LIMITED', retryAfterMs: 500 };
      };
      const found = await fetchForDevices(await open(), service.access, wish);
      expect(shown(found)).toStrictEqual([
        [PHONE, keyId(1)],
        [LAPTOP, 'CoinServiceError'],
      ]);
      expect(found[1]?.error).toMatchObject({ reason: 'RATE_LIMITED', retryAfterMs: 500 });
    }));

  it('never gives one coin to two processes that send the same pending request', () =>
    withService(async ({ storage, open, clock }, service) => {
      service.add(1, 3, 'GOLD', clock.in(DAY), PHONE);
      service.add(10, 3, 'GOLD', clock.in(DAY), LAPTOP);
      service.failNext('fetchDeviceCoins', 'after');
      await expect(fetchForDevices(storage, service.access, wish)).rejects.toThrow();
      const other = await open();
      const both = await Promise.all([storage, other].map((handle) => fetchForDevices(handle, service.access, wish)));
      const used = both.flat().map(({ coin }) => coin?.keyId);
      expect(used.sort()).toStrictEqual([1, 2, 10, 11].map(keyId));
      expect(service.stock).toHaveLength(2);
    }));

  it('gives concurrent callers different coins', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(1, 5, 'GOLD', clock.in(DAY), PHONE);
      service.add(10, 5, 'GOLD', clock.in(DAY), LAPTOP);
      const all = await Promise.all(Array.from({ length: 5 }, () => fetchForDevices(storage, service.access, wish)));
      expect(new Set(all.flat().map(({ coin }) => coin?.keyId)).size).toBe(10);
      expect(service.stock).toHaveLength(0);
    }));

  it('refuses the coin of one device without touching the others, and remembers it as used', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(1, 1, 'GOLD', clock.in(DAY), PHONE);
      service.add(10, 1, 'GOLD', clock.in(DAY), LAPTOP);
      const verify = ({ deviceId }: InventoryCoin, contactId: string) => deviceId === PHONE && contactId === 'bob';
      const found = await fetchForDevices(storage, service.access, wish, { verify });
      expect(shown(found)).toStrictEqual([
        [PHONE, keyId(1)],
        [LAPTOP, 'UnusableCoinError'],
      ]);
      expect(found[1]?.error).toMatchObject({ reason: 'BAD_SIGNATURE' });
      await storage.inventory.setPriority('bob', 'BESTIE');
      expect(await storage.inventory.storeKey(inventoryCoin(10, clock.in(DAY), { deviceId: LAPTOP }))).toBe(false);
      expect(calls(service)).toHaveLength(1);
    }));

  it('discards a coin that names another device, and closes the request', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(1, 1, 'GOLD', clock.in(DAY), PHONE);
      const [coin] = service.stock;
      service.during.fetchDeviceCoins = () => {
        if (coin !== undefined) coin.deviceId = LAPTOP;
      };
      const [found] = await fetchForDevices(storage, service.access, wish);
      expect(found).toMatchObject({ deviceId: PHONE, coin: null, error: { reason: 'MALFORMED' } });
      expect(shown(await fetchForDevices(storage, service.access, wish))).toStrictEqual([
        [PHONE, null],
        [LAPTOP, null],
      ]);
    }));

  it('says which coin was used before or has expired, when a new request brings no other one', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(1, 1, 'GOLD', clock.in(DAY), PHONE);
      service.add(10, 2, 'GOLD', clock.in(HOUR), LAPTOP);
      service.failNext('fetchDeviceCoins', 'after');
      await expect(fetchForDevices(storage, service.access, wish)).rejects.toThrow();
      await storage.pendingRequests.discard('bob', [inventoryCoin(1, clock.in(DAY), { deviceId: PHONE })]);
      clock.advance(HOUR);
      const found = await fetchForDevices(storage, service.access, wish);
      expect(shown(found)).toStrictEqual([
        [PHONE, null],
        [LAPTOP, 'UnusableCoinError'],
      ]);
      expect(found[1]?.error).toMatchObject({ reason: 'EXPIRED' });
    }));

  it('closes a request that the service refuses for good, and repeats one that it cannot serve now', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(1, 1, 'GOLD', clock.in(DAY), PHONE);
      service.deviceErrors.set(wish.userId, {
        code: status.FAILED_PRECONDITION,
        reason: 'REQUEST_ID_REUSED',
        message: 'The request_id was used before.',
        retryDelay: undefined,
      });
      await expect(fetchForDevices(storage, service.access, wish)).rejects.toMatchObject({
        reason: 'REQUEST_ID_REUSED',
      });
      service.deviceErrors.set(wish.userId, {
        code: status.UNAVAILABLE,
        reason: 'OVERLOADED',
        message: 'Retry later.',
        retryDelay: undefined,
      });
      let made = 0;
      service.during.fetchDeviceCoins = () => {
        made += 1;
        if (made === 2) service.deviceErrors.clear();
      };
      expect(shown(await fetchForDevices(storage, service.retrying(), wish))).toStrictEqual([
        [PHONE, keyId(1)],
        [LAPTOP, null],
      ]);
      const ids = calls(service).map(([item]) => item?.requestId);
      expect([new Set(ids).size, ids[2]]).toStrictEqual([2, ids[1]]);
      expect(ids).toHaveLength(4);
    }));

  it('refuses bad arguments before any call', () =>
    withService(async ({ storage }, service) => {
      const nil = '00000000-0000-0000-0000-000000000000';
      const many = Array.from({ length: 51 }, (_, n) => keyId(n + 1));
      for (const deviceIds of [[], ['laptop'], [nil], [null], 'laptop', many]) {
        await expect(fetchForDevices(storage, service.access, { ...wish, deviceIds } as never)).rejects.toMatchObject({
          name: 'InvalidArgumentError',
          field: 'deviceIds',
        });
      }
      for (const [field, changes] of [
        ['contactId', { contactId: '' }],
        ['userId', { userId: 'x' }],
        ['coinCategory', { coinCategory: 'TIN' }],
      ] as const) {
        await expect(fetchForDevices(storage, service.access, { ...wish, ...changes } as never)).rejects.toMatchObject({
          name: 'InvalidArgumentError',
          field,
        });
      }
      await expect(fetchForDevices(storage, service.access, null as never)).rejects.toMatchObject({ field: 'wish' });
      const noFunction = { verify: 'yes' } as never;
      await expect(fetchForDevices(storage, service.access, wish, noFunction)).rejects.toMatchObject({
        field: 'verify',
      });
      expect(service.calls).toStrictEqual([]);
    }));
});

backend.describe('fetching on demand for one device', () => {
  it('returns a coin of that device, by default of the unnamed one', () =>
    withService(async ({ storage, clock }, service) => {
      service.devices = ['', PHONE, LAPTOP];
      service.add(1, 1, 'GOLD', clock.in(DAY));
      service.add(2, 1, 'GOLD', clock.in(DAY), PHONE);
      service.add(3, 1, 'GOLD', clock.in(DAY), LAPTOP);
      const ofLaptop = await fetchOnDemand(storage, service.access, { ...wish, deviceId: LAPTOP.toUpperCase() });
      expect(ofLaptop).toStrictEqual(inventoryCoin(3, clock.in(DAY), { deviceId: LAPTOP }));
      expect(await fetchOnDemand(storage, service.access, wish)).toStrictEqual(inventoryCoin(1, clock.in(DAY)));
      expect(await fetchOnDemand(storage, service.access, { ...wish, deviceId: LAPTOP })).toBeNull();
      expect(service.stock.map(({ deviceId }) => deviceId)).toStrictEqual([PHONE]);
    }));

  it('returns null for a device that was removed, also when an earlier request had got its coin', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(1, 2, 'GOLD', clock.in(DAY), LAPTOP);
      const ofLaptop = { ...wish, deviceId: LAPTOP };
      service.failNext('fetchDeviceCoins', 'after');
      await expect(fetchOnDemand(storage, service.access, ofLaptop)).rejects.toMatchObject({
        code: status.UNAVAILABLE,
      });
      service.remove(LAPTOP);
      expect(await fetchOnDemand(storage, service.access, ofLaptop)).toBeNull();
    }));

  it('rejects with the reason for which the coin must not be used', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(1, 1, 'GOLD', clock.in(DAY), LAPTOP);
      const refuse = { verify: () => false };
      await expect(fetchOnDemand(storage, service.access, { ...wish, deviceId: LAPTOP }, refuse)).rejects.toMatchObject(
        { name: 'UnusableCoinError', reason: 'BAD_SIGNATURE' },
      );
      await expect(fetchOnDemand(storage, service.access, { ...wish, deviceId: 'laptop' })).rejects.toMatchObject({
        name: 'InvalidArgumentError',
        field: 'deviceId',
      });
    }));
});
