import { status } from '@grpc/grpc-js';
import type { BatchFetchCoinsRequest, FetchDeviceCoinsRequest } from '../../../gen/aqm/coin/v1/coin_service';
import { DAY, type Fixture, inventoryCoin, keyId, NO_COINS, withFixture } from '../../conformance/harness';
import { type CoinServiceAccess, type ContactTopUp, type DeviceStorage, topUp } from '../../index';
import { eachBackend } from '../each-backend';
import { ScriptedCoinService } from './scripted-coin-service';

const backend = eachBackend();
const bob = { contactId: 'bob', userId: keyId(1000) };
const PHONE = keyId(0xa);
const LAPTOP = keyId(0xb);
const BESTIE = { GOLD: 5, SILVER: 4, BRONZE: 1 };

/** Runs a test with a contact who is a BESTIE and has a phone and a laptop. */
function withService(test: (fixture: Fixture, service: ScriptedCoinService) => Promise<void>): Promise<void> {
  return withFixture(backend.harness, async (fixture) => {
    const service = await ScriptedCoinService.start();
    service.devices = [PHONE, LAPTOP];
    try {
      await fixture.storage.inventory.setPriority('bob', 'BESTIE');
      await test(fixture, service);
    } finally {
      service.stop();
    }
  });
}

async function topUpBob(storage: DeviceStorage, access: CoinServiceAccess): Promise<ContactTopUp> {
  const [report] = (await topUp(storage, access, [bob])).contacts;
  if (report === undefined) throw new Error('no report');
  return report;
}

/** Returns the items of all BatchFetchCoins calls. */
const fetches = (service: ScriptedCoinService) =>
  service.requests<BatchFetchCoinsRequest>('batchFetchCoins').flatMap(({ requests }) => requests);
/** Returns the ids of the cached coins, which it takes out, with their devices. */
async function takeOut(storage: DeviceStorage): Promise<[deviceId: string | undefined, keyId: string][]> {
  const taken: [string | undefined, string][] = [];
  for (;;) {
    const coins = (await storage.inventory.selectCoins('bob', 'GOLD')).flatMap(({ coin }) => coin ?? []);
    if (coins.length === 0) return taken.sort(([, a], [, b]) => (a < b ? -1 : 1));
    taken.push(...coins.map((coin): [string | undefined, string] => [coin.deviceId, coin.keyId]));
  }
}

backend.describe('topping up a contact with several devices', () => {
  it('fills the budget of each device, by fetches of its own, and reports each', () =>
    withService(async ({ storage, clock }, service) => {
      service.devices = ['', LAPTOP, PHONE];
      service.add(0, 5, 'GOLD', clock.in(DAY), PHONE);
      service.add(10, 2, 'GOLD', clock.in(DAY), LAPTOP);
      service.add(20, 9, 'SILVER', clock.in(DAY));
      const report = await topUpBob(storage, service.access);
      expect(report.error).toBeUndefined();
      expect(report.missing).toStrictEqual({ GOLD: 5 + 3, SILVER: 2 * 4, BRONZE: 3 });
      expect(report.devices.map(({ deviceId, stored, missing }) => [deviceId, stored.length, missing])).toStrictEqual([
        [undefined, 4, { GOLD: 5, SILVER: 0, BRONZE: 1 }],
        [PHONE, 5, { GOLD: 0, SILVER: 4, BRONZE: 1 }],
        [LAPTOP, 2, { GOLD: 3, SILVER: 4, BRONZE: 1 }],
      ]);
      expect(report.stored).toHaveLength(11);
      const asked = fetches(service);
      expect(new Set(asked.map(({ requestId }) => requestId)).size).toBe(9);
      expect(asked.filter(({ coinCategory }) => coinCategory === 1)).toMatchObject(
        ['', PHONE, LAPTOP].map((deviceId) => ({ deviceId, count: 5 })),
      );
      const [unnamed, phone, laptop] = await storage.inventory.selectCoins('bob', 'GOLD');
      expect(unnamed).toMatchObject({ coin: { keyId: keyId(20) } });
      expect(phone).toStrictEqual({ deviceId: PHONE, coin: inventoryCoin(0, clock.in(DAY), { deviceId: PHONE }) });
      expect(laptop).toStrictEqual({ deviceId: LAPTOP, coin: inventoryCoin(10, clock.in(DAY), { deviceId: LAPTOP }) });
    }));

  it('asks for the devices of 50 contacts in a call, and hands out nothing for that', () =>
    withService(async ({ storage }, service) => {
      const contacts = Array.from({ length: 60 }, (_, n) => ({ contactId: `friend ${n}`, userId: keyId(2000 + n) }));
      await topUp(storage, service.access, contacts);
      const lists = service.requests<FetchDeviceCoinsRequest>('fetchDeviceCoins').map(({ requests }) => requests);
      expect(lists.map(({ length }) => length)).toStrictEqual([50, 10]);
      expect(lists.flat().map(({ targetUserId }) => targetUserId)).toStrictEqual(contacts.map(({ userId }) => userId));
      for (const item of lists.flat()) expect(item).toMatchObject({ count: 0, requestId: '', deviceIds: [] });
    }));

  it('forgets the coins of a device that was removed, which are never used or stored again', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 2, 'GOLD', clock.in(DAY), PHONE);
      service.add(10, 3, 'GOLD', clock.in(DAY), LAPTOP);
      await topUpBob(storage, service.access);
      service.remove(LAPTOP);
      const report = await topUpBob(storage, service.access);
      expect(report.removed.map(({ keyId }) => keyId).sort()).toStrictEqual([10, 11, 12].map(keyId));
      expect(report.devices.map(({ deviceId }) => deviceId)).toStrictEqual([PHONE]);
      const selections = await storage.inventory.selectCoins('bob', 'GOLD');
      expect(selections.map(({ deviceId, coin }) => [deviceId, coin?.keyId])).toStrictEqual([[PHONE, keyId(0)]]);
      expect(await storage.inventory.selectCoin('bob', 'GOLD', { deviceId: LAPTOP })).toBeNull();
      const [summary] = await storage.inventory.getSummary('bob');
      expect(summary?.devices).toStrictEqual([{ deviceId: PHONE, counts: { ...NO_COINS, GOLD: 1 } }]);
      expect(await storage.inventory.storeKey(inventoryCoin(10, clock.in(DAY), { deviceId: LAPTOP }))).toBe(false);
    }));

  it('does not repeat a lost fetch of a device that was removed since', () =>
    withService(async ({ storage, open, clock }, service) => {
      service.add(0, 5, 'GOLD', clock.in(DAY), PHONE);
      service.add(10, 5, 'GOLD', clock.in(DAY), LAPTOP);
      service.failNext('batchFetchCoins', 'after');
      await topUpBob(storage, service.access);
      service.remove(LAPTOP);
      const before = fetches(service).length;
      const reopened = await open();
      const report = await topUpBob(reopened, service.access);
      expect(report.stored.map(({ keyId }) => keyId)).toStrictEqual([0, 1, 2, 3, 4].map(keyId));
      const later = fetches(service).slice(before);
      expect(later.filter(({ deviceId }) => deviceId === LAPTOP)).toStrictEqual([]);
      expect(await takeOut(reopened)).toStrictEqual([0, 1, 2, 3, 4].map((n) => [PHONE, keyId(n)]));
    }));

  it('stores no coin of a device that turns out to be gone while its fetch is on its way', () =>
    withService(async ({ storage, open, clock }, service) => {
      service.add(0, 1, 'GOLD', clock.in(DAY), PHONE);
      service.add(10, 1, 'GOLD', clock.in(DAY), LAPTOP);
      const other = await open();
      service.during.batchFetchCoins = async () => {
        await other.pendingRequests.learnDevices('bob', [PHONE]);
      };
      const report = await topUpBob(storage, service.access);
      expect(report.stored).toStrictEqual([{ keyId: keyId(0), coinCategory: 'GOLD' }]);
      expect(report.discarded).toStrictEqual([{ keyId: keyId(10), coinCategory: 'GOLD', reason: 'DEVICE_REMOVED' }]);
      expect(await takeOut(storage)).toStrictEqual([[PHONE, keyId(0)]]);
    }));

  it('fetches for a device that came since, and keeps what it has of the others', () =>
    withService(async ({ storage, clock }, service) => {
      service.devices = [PHONE];
      service.add(0, 5, 'GOLD', clock.in(DAY), PHONE);
      await topUpBob(storage, service.access);
      service.devices = [PHONE, LAPTOP];
      service.add(10, 1, 'GOLD', clock.in(DAY), LAPTOP);
      const report = await topUpBob(storage, service.access);
      expect(report.removed).toStrictEqual([]);
      expect(report.stored).toStrictEqual([{ keyId: keyId(10), coinCategory: 'GOLD' }]);
      expect((await takeOut(storage)).map(([deviceId]) => deviceId)).toStrictEqual([
        ...Array.from({ length: 5 }, () => PHONE),
        LAPTOP,
      ]);
    }));

  it.each(['learnDevices', 'resumeTopUps', 'reserveRoom', 'settleTopUp', 'missingCoins'] as const)(
    'loses no coin and uses none twice after a crash before and after %s',
    (step) =>
      withService(async ({ storage, open, clock }, service) => {
        service.add(0, 5, 'GOLD', clock.in(DAY), PHONE);
        service.add(10, 5, 'GOLD', clock.in(DAY), LAPTOP);
        const die = async () => {
          throw new Error('The process dies.');
        };
        const before = { ...storage, pendingRequests: { ...storage.pendingRequests, [step]: die } };
        await expect(topUp(before, service.access, [bob])).rejects.toThrow('The process dies.');
        const work = storage.pendingRequests[step] as (...args: unknown[]) => Promise<unknown>;
        const workAndDie = async (...args: unknown[]) => {
          await work(...args);
          await die();
        };
        const after = { ...storage, pendingRequests: { ...storage.pendingRequests, [step]: workAndDie } };
        await expect(topUp(after, service.access, [bob])).rejects.toThrow('The process dies.');
        await storage.close();
        const reopened = await open();
        await topUpBob(reopened, service.access);
        expect(service.stock).toHaveLength(0);
        expect(await takeOut(reopened)).toStrictEqual([
          ...[0, 1, 2, 3, 4].map((n) => [PHONE, keyId(n)]),
          ...[10, 11, 12, 13, 14].map((n) => [LAPTOP, keyId(n)]),
        ]);
        // Each request has one device and count, however often it was repeated.
        const sent = new Map<string, unknown>();
        for (const { requestId, ...rest } of fetches(service)) {
          expect(sent.get(requestId) ?? rest).toStrictEqual(rest);
          sent.set(requestId, rest);
        }
      }),
  );

  it('reports a contact that has no devices, and keeps no coin of it', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 1, 'GOLD', clock.in(DAY), PHONE);
      await topUpBob(storage, service.access);
      service.devices = [];
      const report = await topUpBob(storage, service.access);
      expect(report).toStrictEqual({
        contactId: 'bob',
        stored: [],
        discarded: [],
        missing: NO_COINS,
        devices: [],
        removed: [{ keyId: keyId(0), coinCategory: 'GOLD' }],
      });
      expect(await storage.inventory.selectCoins('bob', 'GOLD')).toStrictEqual([]);
    }));

  it('reports the contact whose devices cannot be listed, and fills those that it knows of it', () =>
    withService(async ({ storage, clock }, service) => {
      const zoe = { contactId: 'zoe', userId: keyId(1001) };
      await storage.inventory.setPriority('zoe', 'BESTIE');
      await topUp(storage, service.access, [bob, zoe]);
      service.add(0, 20, 'BRONZE', clock.in(DAY), PHONE);
      service.deviceErrors.set(bob.userId, {
        code: status.RESOURCE_EXHAUSTED,
        reason: 'RATE_LIMITED',
        message: 'Retry in 5 s.',
        retryDelay: { seconds: 5n, nanos: 0 },
      });
      const [ofBob, ofZoe] = (await topUp(storage, service.access, [bob, zoe])).contacts;
      expect(ofBob?.error).toMatchObject({ reason: 'RATE_LIMITED', retryAfterMs: 5000 });
      expect(ofBob?.devices.map(({ deviceId, stored }) => [deviceId, stored.length])).toStrictEqual([
        [PHONE, 1],
        [LAPTOP, 0],
      ]);
      expect(ofZoe?.error).toBeUndefined();
      expect(ofZoe?.stored).toHaveLength(1);
    }));

  it('repeats a list that fails for a while, and reports a lasting failure for every contact', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 1, 'GOLD', clock.in(DAY), PHONE);
      service.failNext('fetchDeviceCoins', 'before');
      service.failNext('fetchDeviceCoins', 'after');
      expect((await topUpBob(storage, service.retrying())).stored).toHaveLength(1);
      service.failNext('fetchDeviceCoins', 'before', { code: status.INTERNAL });
      expect(await topUpBob(storage, service.access)).toMatchObject({
        error: { code: status.INTERNAL },
        missing: { GOLD: 9, SILVER: 8, BRONZE: 2 },
      });
    }));

  it('learns nothing from a list that no coin service makes', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 1, 'GOLD', clock.in(DAY), PHONE);
      await topUpBob(storage, service.access);
      for (const devices of [['laptop'], [keyId(1), '00000000-0000-0000-0000-000000000000']]) {
        service.devices = devices;
        expect((await topUpBob(storage, service.access)).error).toMatchObject({ code: status.INTERNAL });
      }
      const [summary] = await storage.inventory.getSummary('bob');
      expect(summary?.devices).toStrictEqual([
        { deviceId: PHONE, counts: { ...NO_COINS, GOLD: 1 } },
        { deviceId: LAPTOP, counts: NO_COINS },
      ]);
    }));

  it('discards a coin of another device than the one that was asked', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 1, 'GOLD', clock.in(DAY), PHONE);
      const [coin] = service.stock;
      service.during.batchFetchCoins = () => {
        if (coin !== undefined) coin.deviceId = LAPTOP;
      };
      const report = await topUpBob(storage, service.access);
      expect(report.discarded).toStrictEqual([{ keyId: keyId(0), coinCategory: 'GOLD', reason: 'MALFORMED' }]);
      expect(report.missing).toStrictEqual({ GOLD: 10, SILVER: 8, BRONZE: 2 });
    }));

  it('keeps the budgets of devices apart when two processes top up at once', () =>
    withService(async ({ storage, open, clock }, service) => {
      service.add(0, 20, 'GOLD', clock.in(DAY), PHONE);
      service.add(20, 20, 'GOLD', clock.in(DAY), LAPTOP);
      const other = await open();
      await Promise.all([topUpBob(storage, service.access), topUpBob(other, service.access)]);
      const [summary] = await storage.inventory.getSummary('bob');
      expect(summary?.devices.map(({ counts }) => counts.GOLD)).toStrictEqual([BESTIE.GOLD, BESTIE.GOLD]);
      expect(service.stock).toHaveLength(30);
    }));
});
