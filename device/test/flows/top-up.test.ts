import { status } from '@grpc/grpc-js';
import type { BatchFetchCoinsRequest } from '../../../gen/aqm/coin/v1/coin_service';
import { DAY, type Fixture, HOUR, inventoryCoin, keyId, MINUTE, withFixture } from '../../conformance/harness';
import { type CoinServiceAccess, type ContactTopUp, type DeviceStorage, type InventoryCoin, topUp } from '../../index';
import { eachBackend } from '../each-backend';
import { ScriptedCoinService } from './scripted-coin-service';

const backend = eachBackend();
const bob = { contactId: 'bob', userId: keyId(1000) };
const NOTHING_MISSING = { GOLD: 0, SILVER: 0, BRONZE: 0 };

function withService(test: (fixture: Fixture, service: ScriptedCoinService) => Promise<void>): Promise<void> {
  return withFixture(backend.harness, async (fixture) => {
    const service = await ScriptedCoinService.start();
    try {
      await fixture.storage.inventory.setPriority('bob', 'BESTIE');
      await test(fixture, service);
    } finally {
      service.stop();
    }
  });
}

async function topUpBob(storage: DeviceStorage, access: CoinServiceAccess) {
  const [report] = (await topUp(storage, access, [bob])).contacts;
  if (report === undefined) throw new Error('no report');
  return report;
}

const items = (service: ScriptedCoinService) =>
  service.requests<BatchFetchCoinsRequest>('batchFetchCoins').map(({ requests }) => requests);
const counts = async (storage: DeviceStorage) => (await storage.inventory.getSummary('bob'))[0]?.counts;

backend.describe('topping up', () => {
  it('fills every budget with one call and reports what it got', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 8, 'GOLD', clock.in(DAY));
      service.add(10, 2, 'SILVER', clock.in(DAY));
      service.add(20, 8, 'BRONZE', clock.in(DAY));
      const report = await topUpBob(storage, service.access);
      expect(report.stored.map(({ keyId }) => keyId).sort()).toStrictEqual([0, 1, 2, 3, 4, 10, 11, 20].map(keyId));
      expect(report).toMatchObject({ contactId: 'bob', discarded: [], missing: { GOLD: 0, SILVER: 2, BRONZE: 0 } });
      expect(report.error).toBeUndefined();
      expect(service.calls.map(({ method }) => method)).toStrictEqual(['fetchDeviceCoins', 'batchFetchCoins']);
      const [requests] = items(service);
      expect(requests).toMatchObject([
        { targetUserId: bob.userId, coinCategory: 1, count: 5, allowLowerCategories: false },
        { coinCategory: 2, count: 4 },
        { coinCategory: 3, count: 1 },
      ]);
      expect(new Set(requests?.map(({ requestId }) => requestId)).size).toBe(3);
      expect(service.stock).toHaveLength(3 + 7);
      expect(await storage.inventory.selectCoin('bob', 'GOLD')).toStrictEqual(inventoryCoin(0, clock.in(DAY)));
    }));

  it('fetches nothing when nothing is missing', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 5, 'GOLD', clock.in(DAY));
      service.add(10, 4, 'SILVER', clock.in(DAY));
      service.add(20, 1, 'BRONZE', clock.in(DAY));
      await topUpBob(storage, service.access);
      expect(await topUpBob(storage, service.access)).toMatchObject({ stored: [], missing: NOTHING_MISSING });
      expect(items(service)).toHaveLength(1);
      await storage.inventory.selectCoin('bob', 'GOLD');
      await topUpBob(storage, service.access);
      expect(items(service)[1]).toMatchObject([{ coinCategory: 1, count: 1 }]);
    }));

  it('serves many contacts, 50 fetches per call, and reports them in the order of the arguments', () =>
    withService(async ({ storage, clock }, service) => {
      const contacts = Array.from({ length: 40 }, (_, n) => ({ contactId: `friend ${n}`, userId: keyId(2000 + n) }));
      for (const { contactId } of contacts) await storage.inventory.setPriority(contactId, 'MATE');
      service.add(0, 6, 'SILVER', clock.in(DAY));
      const report = await topUp(storage, service.access, contacts);
      expect(report.contacts.map(({ contactId }) => contactId)).toStrictEqual(
        contacts.map(({ contactId }) => contactId),
      );
      expect(report.contacts[0]?.stored).toHaveLength(6);
      expect(items(service).map(({ length }) => length)).toStrictEqual([50, 30]);
    }));

  it('gets the same coins by the same requests after a lost reply and a restart, and only those', () =>
    withService(async ({ storage, open, clock }, service) => {
      service.add(0, 20, 'GOLD', clock.in(DAY));
      service.failNext('batchFetchCoins', 'after');
      const failed = await topUpBob(storage, service.access);
      expect(failed).toMatchObject({
        stored: [],
        error: { reason: 'UNAVAILABLE' },
        missing: { GOLD: 5, SILVER: 4, BRONZE: 1 },
      });
      // The room that the lost request reserved stays reserved.
      expect(await storage.inventory.storeKey(inventoryCoin(500, clock.in(DAY)))).toBe(false);
      await storage.close();
      const report = await topUpBob(await open(), service.access);
      expect(report.stored.map(({ keyId }) => keyId)).toStrictEqual([0, 1, 2, 3, 4].map(keyId));
      expect(service.stock).toHaveLength(15);
      const [first, second] = items(service);
      expect(new Set(second)).toEqual(new Set(first));
    }));

  it.each([status.UNAVAILABLE, status.DEADLINE_EXCEEDED])(
    'keeps a reservation open whose item failed with %p',
    (code) =>
      withService(async ({ storage, clock }, service) => {
        service.add(0, 5, 'GOLD', clock.in(DAY));
        service.itemErrors.set('GOLD', { code, reason: 'OVERLOADED', message: 'Try later.', retryDelay: undefined });
        const report = await topUpBob(storage, service.access);
        expect(report.error).toMatchObject({ code, reason: 'OVERLOADED', message: 'Try later.' });
        service.itemErrors.clear();
        expect((await topUpBob(storage, service.access)).stored).toHaveLength(5);
        const ids = items(service).map(
          (requests) => requests.find(({ coinCategory }) => coinCategory === 1)?.requestId,
        );
        expect(ids[1]).toBe(ids[0]);
      }),
  );

  it('closes a reservation that is refused for good, so that the next top-up makes a new request', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 5, 'GOLD', clock.in(DAY));
      const refused = { code: status.FAILED_PRECONDITION, reason: 'REQUEST_ID_REUSED', message: 'No.' };
      service.itemErrors.set('GOLD', { ...refused, retryDelay: undefined });
      expect((await topUpBob(storage, service.access)).error?.reason).toBe('REQUEST_ID_REUSED');
      service.itemErrors.clear();
      expect((await topUpBob(storage, service.access)).stored).toHaveLength(5);
      const ids = items(service).map((requests) => requests.find(({ coinCategory }) => coinCategory === 1)?.requestId);
      expect(ids[1]).not.toBe(ids[0]);
    }));

  it('discards and reports coins that no longer fit a budget that was lowered meanwhile, and never stores them again', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 5, 'GOLD', clock.in(DAY));
      service.add(10, 4, 'SILVER', clock.in(DAY));
      service.during.batchFetchCoins = async () => {
        await storage.inventory.setPriority('bob', 'MATE');
      };
      const report = await topUpBob(storage, service.access);
      expect(report.stored).toHaveLength(4);
      expect(report.discarded).toStrictEqual(
        [0, 1, 2, 3, 4].map((n) => ({ keyId: keyId(n), coinCategory: 'GOLD', reason: 'OVER_BUDGET' })),
      );
      expect(await counts(storage)).toStrictEqual({ GOLD: 0, SILVER: 4, BRONZE: 0 });
      await storage.inventory.setPriority('bob', 'BESTIE');
      expect(await storage.inventory.storeKey(inventoryCoin(0, clock.in(DAY)))).toBe(false);
    }));

  it('discards and reports coins that have expired or do not match the request', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 1, 'GOLD', clock.now());
      service.add(1, 4, 'GOLD', clock.in(MINUTE));
      const [, shortKey, shortSignature, endless] = service.stock;
      if (!shortKey || !shortSignature || !endless) throw new Error('no stock');
      shortKey.publicKey = Buffer.alloc(1183);
      shortSignature.signature = Buffer.alloc(64);
      endless.expireTime = undefined;
      const report = await topUpBob(storage, service.access);
      expect(report.stored).toStrictEqual([{ keyId: keyId(4), coinCategory: 'GOLD' }]);
      expect(report.discarded.map(({ keyId, reason }) => [keyId, reason])).toStrictEqual([
        [keyId(1), 'MALFORMED'],
        [keyId(2), 'MALFORMED'],
        [keyId(3), 'MALFORMED'],
        [keyId(0), 'EXPIRED'],
      ]);
      expect(report.missing.GOLD).toBe(4);
      expect((await topUpBob(storage, service.access)).discarded).toStrictEqual([]);
    }));

  it('makes a new request when a response has no usable coin', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 1, 'GOLD', clock.in(DAY));
      const [coin] = service.stock;
      if (coin) coin.publicKey = Buffer.alloc(1);
      expect((await topUpBob(storage, service.access)).discarded).toHaveLength(1);
      service.add(1, 5, 'GOLD', clock.in(DAY));
      expect((await topUpBob(storage, service.access)).stored).toHaveLength(5);
    }));

  it('stores the coins once when two processes send the same pending requests', () =>
    withService(async ({ storage, open, clock }, service) => {
      service.add(0, 9, 'GOLD', clock.in(DAY));
      service.failNext('batchFetchCoins', 'after');
      await topUpBob(storage, service.access);
      const other = await open();
      const reports = await Promise.all([topUpBob(storage, service.access), topUpBob(other, service.access)]);
      expect(reports.flatMap(({ stored }) => stored)).toHaveLength(5);
      expect(reports.flatMap(({ discarded }) => discarded)).toStrictEqual([]);
      expect(service.stock).toHaveLength(4);
    }));

  it('does not bring back a coin that was used while another process sent the same request', () =>
    withService(async ({ storage, open, clock }, service) => {
      service.add(0, 1, 'GOLD', clock.in(DAY));
      service.failNext('batchFetchCoins', 'after');
      await topUpBob(storage, service.access);
      const other = await open();
      let nested = false;
      service.during.batchFetchCoins = async () => {
        if (nested) return;
        nested = true;
        await topUpBob(other, service.access);
        expect((await other.inventory.selectCoin('bob', 'GOLD'))?.keyId).toBe(keyId(0));
      };
      const report = await topUpBob(storage, service.access);
      expect(report.stored).toStrictEqual([]);
      expect(report.discarded).toStrictEqual([{ keyId: keyId(0), coinCategory: 'GOLD', reason: 'ALREADY_USED' }]);
      expect(await storage.inventory.selectCoin('bob', 'GOLD')).toBeNull();
    }));

  it('keeps the room of an empty response while another process may still get coins for the request', () =>
    withService(async ({ storage, open, clock }, service) => {
      service.failNext('batchFetchCoins', 'before');
      await topUpBob(storage, service.access);
      const other = await open();
      const arrived = Promise.withResolvers<void>();
      const released = Promise.withResolvers<void>();
      let late: Promise<ContactTopUp> | undefined;
      service.during.batchFetchCoins = async () => {
        if (late !== undefined) {
          // The other process has its coins, but the response is held back until the first one has settled.
          arrived.resolve();
          await released.promise;
          return;
        }
        // The first process found the stock empty. Now coins arrive, and the other one sends the same requests.
        service.add(0, 10, 'GOLD', clock.in(DAY));
        late = topUpBob(other, service.access);
        await arrived.promise;
        service.during = {};
      };
      expect((await topUpBob(storage, service.access)).stored).toStrictEqual([]);
      released.resolve();
      expect(await late).toMatchObject({ discarded: [], missing: { GOLD: 0 } });
      expect(await counts(storage)).toMatchObject({ GOLD: 5 });
      expect(service.stock).toHaveLength(5);
    }));

  it('releases the room of an empty response when no other process sends the request', () =>
    withService(async ({ storage, clock }, service) => {
      await topUpBob(storage, service.access);
      expect(await storage.inventory.storeKey(inventoryCoin(1, clock.in(DAY)))).toBe(true);
    }));

  it('repeats a request also after the server has forgotten it: there it is a new one', () =>
    withService(async ({ storage, clock }, service) => {
      service.failNext('batchFetchCoins', 'before');
      await topUpBob(storage, service.access);
      clock.advance(2 * HOUR);
      service.add(0, 5, 'GOLD', clock.in(DAY));
      expect((await topUpBob(storage, service.access)).stored).toHaveLength(5);
    }));

  it('closes the reservations of a contact whose user id has changed', () =>
    withService(async ({ storage, clock }, service) => {
      service.failNext('batchFetchCoins', 'before');
      await topUpBob(storage, service.access);
      service.add(0, 5, 'GOLD', clock.in(DAY));
      await topUp(storage, service.access, [{ contactId: 'bob', userId: keyId(1001).toUpperCase() }]);
      expect(items(service)[1]?.every(({ targetUserId }) => targetUserId === keyId(1001))).toBe(true);
      expect(await counts(storage)).toMatchObject({ GOLD: 5 });
    }));

  it('asks for nothing after a failed top-up of a contact that became a stranger', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 5, 'GOLD', clock.in(DAY));
      service.failNext('batchFetchCoins', 'before');
      await topUpBob(storage, service.access);
      await storage.inventory.setPriority('bob', 'STRANGER');
      expect(await topUpBob(storage, service.access)).toMatchObject({ stored: [], discarded: [] });
      expect(items(service)).toHaveLength(1);
      expect(service.stock).toHaveLength(5);
    }));

  it('discards and reports coins that would expire later than any coin may, and keeps the latest possible ones', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 1, 'GOLD', new Date('9999-12-31'));
      service.add(1, 1, 'GOLD', clock.in(24 * DAY + 5 * MINUTE + 1));
      service.add(2, 1, 'GOLD', clock.in(24 * DAY + 5 * MINUTE));
      const report = await topUpBob(storage, service.access);
      expect(report.stored.map(({ keyId }) => keyId)).toStrictEqual([keyId(2)]);
      expect(report.discarded).toStrictEqual(
        [0, 1].map((n) => ({ keyId: keyId(n), coinCategory: 'GOLD', reason: 'MALFORMED' })),
      );
    }));

  it('discards, reports and never stores coins that `verify` refuses, and stores the others', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 4, 'GOLD', clock.in(DAY));
      const seen: unknown[] = [];
      const verify = async (coin: InventoryCoin, contactId: string) => {
        seen.push([coin, contactId]);
        if (coin.keyId === keyId(1)) throw new Error('The key cannot be read.');
        // Only true accepts a coin.
        return (coin.keyId === keyId(3) ? 'yes' : coin.keyId !== keyId(0)) as boolean;
      };
      const [report] = (await topUp(storage, service.access, [bob], { verify })).contacts;
      expect(report?.stored).toStrictEqual([{ keyId: keyId(2), coinCategory: 'GOLD' }]);
      expect(report?.discarded).toStrictEqual(
        [0, 1, 3].map((n) => ({ keyId: keyId(n), coinCategory: 'GOLD', reason: 'BAD_SIGNATURE' })),
      );
      expect(report?.missing.GOLD).toBe(4);
      expect(seen[0]).toStrictEqual([inventoryCoin(0, clock.in(DAY)), 'bob']);
      for (const n of [0, 1, 3]) {
        expect(await storage.inventory.storeKey(inventoryCoin(n, clock.in(DAY)))).toBe(false);
      }
    }));

  it('makes a new request when `verify` refuses every coin of a response', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 5, 'GOLD', clock.in(DAY));
      const refused = await topUp(storage, service.access, [bob], { verify: () => false });
      expect(refused.contacts[0]?.discarded).toHaveLength(5);
      service.add(5, 5, 'GOLD', clock.in(DAY));
      const stored = await topUp(storage, service.access, [bob], { verify: () => true });
      expect(stored.contacts[0]?.stored).toHaveLength(5);
    }));

  it('refuses the same coins again after a crash between remembering them and closing their request', () =>
    withService(async ({ storage, open, clock }, service) => {
      service.add(0, 5, 'GOLD', clock.in(DAY));
      const verify = ({ keyId: id }: InventoryCoin) => id === keyId(0);
      const crash = async () => {
        throw new Error('The process dies.');
      };
      for (const step of ['discard', 'settleTopUp'] as const) {
        const dying = { ...storage, pendingRequests: { ...storage.pendingRequests, [step]: crash } };
        await expect(topUp(dying, service.access, [bob], { verify })).rejects.toThrow('The process dies.');
      }
      const [report] = (await topUp(await open(), service.access, [bob], { verify })).contacts;
      expect(report?.stored).toStrictEqual([{ keyId: keyId(0), coinCategory: 'GOLD' }]);
      expect(report?.discarded.map(({ keyId, reason }) => [keyId, reason])).toStrictEqual(
        [1, 2, 3, 4].map((n) => [keyId(n), 'BAD_SIGNATURE']),
      );
      expect(service.stock).toHaveLength(0);
    }));

  it('passes no malformed coin to `verify`, and refuses one that is no function before any call', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 1, 'GOLD', clock.in(DAY));
      const [coin] = service.stock;
      if (coin) coin.publicKey = Buffer.alloc(1);
      const verify = jest.fn(() => true);
      await topUp(storage, service.access, [bob], { verify });
      expect(verify).not.toHaveBeenCalled();
      for (const options of [{ verify: true }, { verify: null }, null, verify]) {
        await expect(topUp(storage, service.access, [bob], options as never)).rejects.toMatchObject({
          name: 'InvalidArgumentError',
          field: options === null || options === verify ? 'options' : 'verify',
        });
      }
      expect(items(service)).toHaveLength(1);
    }));

  it('refuses bad and repeated contacts, having changed nothing', () =>
    withService(async ({ storage }, service) => {
      const bad: [string, unknown][] = [
        ['contacts', [bob, bob]],
        ['contacts', 'bob'],
        ['contacts', [null]],
        ['contactId', [{ ...bob, contactId: '' }]],
        ['userId', [{ ...bob, userId: 'bob' }]],
      ];
      for (const [field, contacts] of bad) {
        await expect(topUp(storage, service.access, contacts as never)).rejects.toMatchObject({
          name: 'InvalidArgumentError',
          field,
        });
      }
      expect(service.calls).toStrictEqual([]);
      expect(await storage.pendingRequests.resumeTopUps([bob])).toStrictEqual([]);
    }));
});
