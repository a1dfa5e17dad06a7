import { status } from '@grpc/grpc-js';
import type { FetchCoinsRequest } from '../../../gen/aqm/coin/v1/coin_service';
import { DAY, type Fixture, inventoryCoin, keyId, withFixture } from '../../conformance/harness';
import { fetchOnDemand, type InventoryCoin } from '../../index';
import { eachBackend } from '../each-backend';
import { ScriptedCoinService } from './scripted-coin-service';

const backend = eachBackend();
const wish = { contactId: 'bob', userId: keyId(1000), coinCategory: 'GOLD' } as const;

function withService(test: (fixture: Fixture, service: ScriptedCoinService) => Promise<void>): Promise<void> {
  return withFixture(backend.harness, async (fixture) => {
    const service = await ScriptedCoinService.start();
    try {
      await test(fixture, service);
    } finally {
      service.stop();
    }
  });
}

const requestIds = (service: ScriptedCoinService) =>
  service.requests<FetchCoinsRequest>('fetchCoins').map(({ requestId }) => requestId);

backend.describe('fetching on demand', () => {
  it('returns one coin to use at once and keeps none', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(1, 3, 'GOLD', clock.in(DAY));
      expect(await fetchOnDemand(storage, service.access, wish)).toStrictEqual(inventoryCoin(1, clock.in(DAY)));
      expect(service.requests('fetchCoins')).toMatchObject([
        { targetUserId: wish.userId, count: 1, allowLowerCategories: false },
      ]);
      expect(await storage.inventory.getTotalStorageBytes()).toBe(0);
      expect(service.stock).toHaveLength(2);
    }));

  it('answers null when the service has none, and makes a new request the next time', () =>
    withService(async ({ storage, clock }, service) => {
      expect(await fetchOnDemand(storage, service.access, wish)).toBeNull();
      service.add(1, 1, 'GOLD', clock.in(DAY));
      expect((await fetchOnDemand(storage, service.access, wish))?.keyId).toBe(keyId(1));
      const [first, second] = requestIds(service);
      expect(second).not.toBe(first);
    }));

  it('gets the coin of a lost reply after a restart, by the same request', () =>
    withService(async ({ storage, open, clock }, service) => {
      service.add(1, 2, 'GOLD', clock.in(DAY));
      service.failNext('fetchCoins', 'after', { code: status.DEADLINE_EXCEEDED });
      await expect(fetchOnDemand(storage, service.access, wish)).rejects.toMatchObject({
        code: status.DEADLINE_EXCEEDED,
      });
      await storage.close();
      const reopened = await open();
      const otherWish = { ...wish, coinCategory: 'BRONZE' } as const;
      expect(await fetchOnDemand(reopened, service.access, otherWish)).toBeNull();
      expect((await fetchOnDemand(reopened, service.access, wish))?.keyId).toBe(keyId(1));
      expect((await fetchOnDemand(reopened, service.access, wish))?.keyId).toBe(keyId(2));
      const [lost, other, resumed, next] = requestIds(service);
      expect(resumed).toBe(lost);
      expect(new Set([lost, other, next]).size).toBe(3);
    }));

  it('gives concurrent callers different coins', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(1, 10, 'GOLD', clock.in(DAY));
      const coins = await Promise.all(Array.from({ length: 10 }, () => fetchOnDemand(storage, service.access, wish)));
      expect(new Set(coins.map((coin) => coin?.keyId)).size).toBe(10);
      expect(coins).not.toContain(null);
      expect(service.stock).toHaveLength(0);
    }));

  it('never returns one coin to two processes that send the same pending request', () =>
    withService(async ({ storage, open, clock }, service) => {
      service.add(1, 3, 'GOLD', clock.in(DAY));
      service.failNext('fetchCoins', 'after');
      await expect(fetchOnDemand(storage, service.access, wish)).rejects.toThrow();
      const other = await open();
      const coins = await Promise.all([storage, other].map((handle) => fetchOnDemand(handle, service.access, wish)));
      expect(coins.map((coin) => coin?.keyId).sort()).toStrictEqual([keyId(1), keyId(2)]);
      expect(service.stock).toHaveLength(1);
    }));

  it('makes a new request when an old one brings a coin that has expired', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(1, 1, 'GOLD', clock.in(DAY));
      service.failNext('fetchCoins', 'after');
      await expect(fetchOnDemand(storage, service.access, wish)).rejects.toThrow();
      clock.advance(DAY);
      service.add(2, 1, 'GOLD', clock.in(DAY));
      expect((await fetchOnDemand(storage, service.access, wish))?.keyId).toBe(keyId(2));
    }));

  it('remembers the coin as used, so that no top-up brings it back', () =>
    withService(async ({ storage, clock }, service) => {
      await storage.inventory.setPriority('bob', 'BESTIE');
      service.add(1, 1, 'GOLD', clock.in(DAY));
      await fetchOnDemand(storage, service.access, wish);
      expect(await storage.inventory.storeKey(inventoryCoin(1, clock.in(DAY)))).toBe(false);
    }));

  it('closes a request that the service refuses for good', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(1, 1, 'GOLD', clock.in(DAY));
      service.failNext('fetchCoins', 'before', { code: status.FAILED_PRECONDITION, reason: 'REQUEST_ID_REUSED' });
      await expect(fetchOnDemand(storage, service.access, wish)).rejects.toMatchObject({
        code: status.FAILED_PRECONDITION,
      });
      expect((await fetchOnDemand(storage, service.access, wish))?.keyId).toBe(keyId(1));
      const [first, second] = requestIds(service);
      expect(second).not.toBe(first);
    }));

  it('takes a lower category only when allowed', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(1, 1, 'GOLD', clock.in(DAY));
      const [coin] = service.stock;
      if (coin === undefined) throw new Error('no stock');
      Object.assign(coin, { publicKey: Buffer.alloc(1184), signature: Buffer.alloc(64) });
      service.during.fetchCoins = () => {
        coin.coinCategory = 2;
      };
      await expect(fetchOnDemand(storage, service.access, wish)).rejects.toMatchObject({ reason: 'MALFORMED' });
      service.stock.push(coin);
      coin.coinCategory = 1;
      const lower = await fetchOnDemand(storage, service.access, { ...wish, allowLowerCategories: true });
      expect(lower?.coinCategory).toBe('SILVER');
    }));

  it('rejects by name with a malformed coin, and makes a new request the next time', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(1, 2, 'GOLD', clock.in(DAY));
      const [coin] = service.stock;
      if (coin) coin.publicKey = Buffer.alloc(5);
      await expect(fetchOnDemand(storage, service.access, wish)).rejects.toMatchObject({
        name: 'UnusableCoinError',
        reason: 'MALFORMED',
      });
      expect(service.calls).toHaveLength(1);
      expect((await fetchOnDemand(storage, service.access, wish))?.keyId).toBe(keyId(2));
    }));

  it('rejects by name if the service gives a coin that was used before', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(1, 1, 'GOLD', clock.in(DAY));
      const [coin] = service.stock;
      if (coin === undefined) throw new Error('no stock');
      expect((await fetchOnDemand(storage, service.access, wish))?.keyId).toBe(keyId(1));
      service.during.fetchCoins = () => {
        service.stock.push(coin);
      };
      service.stock.push(coin);
      await expect(fetchOnDemand(storage, service.access, wish)).rejects.toMatchObject({
        name: 'UnusableCoinError',
        reason: 'ALREADY_USED',
      });
      service.during = {};
      service.stock.length = 0;
      expect(await fetchOnDemand(storage, service.access, wish)).toBeNull();
    }));

  it('rejects by name if even a new request brings a coin that has expired', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(1, 2, 'GOLD', clock.now());
      await expect(fetchOnDemand(storage, service.access, wish)).rejects.toMatchObject({ reason: 'EXPIRED' });
    }));

  it('answers null when a repeated request brings a used coin and the service has no other', () =>
    withService(async ({ storage, open, clock }, service) => {
      service.add(1, 1, 'GOLD', clock.in(DAY));
      service.failNext('fetchCoins', 'after');
      await expect(fetchOnDemand(storage, service.access, wish)).rejects.toThrow();
      const other = await open();
      const coins = await Promise.all([storage, other].map((handle) => fetchOnDemand(handle, service.access, wish)));
      expect(coins.map((coin) => coin?.keyId).sort()).toStrictEqual([keyId(1), undefined]);
    }));

  it('discards a coin that `verify` refuses, rejects by name, and remembers the coin as used', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(1, 3, 'GOLD', clock.in(DAY));
      const refusals = [
        () => false,
        () => {
          throw new Error('The key cannot be read.');
        },
      ];
      for (const verify of refusals) {
        await expect(fetchOnDemand(storage, service.access, wish, { verify })).rejects.toMatchObject({
          name: 'UnusableCoinError',
          reason: 'BAD_SIGNATURE',
        });
      }
      expect(service.calls).toHaveLength(2);
      const verify = async (coin: InventoryCoin, contactId: string) => coin.keyId === keyId(3) && contactId === 'bob';
      expect((await fetchOnDemand(storage, service.access, wish, { verify }))?.keyId).toBe(keyId(3));
      expect(new Set(requestIds(service)).size).toBe(3);
      await storage.inventory.setPriority('bob', 'BESTIE');
      expect(await storage.inventory.storeKey(inventoryCoin(1, clock.in(DAY)))).toBe(false);
    }));

  it('refuses bad arguments before any call', () =>
    withService(async ({ storage }, service) => {
      for (const [field, changes] of [
        ['contactId', { contactId: '' }],
        ['userId', { userId: 'x' }],
        ['coinCategory', { coinCategory: 'TIN' }],
      ] as const) {
        const bad = { ...wish, ...changes } as typeof wish;
        await expect(fetchOnDemand(storage, service.access, bad)).rejects.toMatchObject({
          name: 'InvalidArgumentError',
          field,
        });
      }
      for (const timeoutMs of [0, Number.NaN, 300_001]) {
        const access = { ...service.access, timeoutMs };
        await expect(fetchOnDemand(storage, access, wish)).rejects.toMatchObject({ field: 'timeoutMs' });
      }
      for (const [field, access] of [
        ['client', undefined],
        ['client', null],
        ['client', { ...service.access, client: undefined }],
        ['client', { ...service.access, client: { fetchCoins: async () => ({ coins: [] }) } }],
        ['token', { ...service.access, token: 'a.b.c' }],
      ] as const) {
        await expect(fetchOnDemand(storage, access as never, wish)).rejects.toMatchObject({
          name: 'InvalidArgumentError',
          field,
        });
      }
      await expect(fetchOnDemand(storage, service.access, undefined as never)).rejects.toMatchObject({ field: 'wish' });
      const noFunction = { verify: 'yes' } as never;
      await expect(fetchOnDemand(storage, service.access, wish, noFunction)).rejects.toMatchObject({ field: 'verify' });
      expect(service.calls).toStrictEqual([]);
    }));

  it('gives up at the deadline and leaves the request open', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(1, 2, 'GOLD', clock.in(DAY));
      const never = Promise.withResolvers<void>();
      service.during.fetchCoins = () => never.promise;
      const failed = fetchOnDemand(storage, { ...service.access, timeoutMs: 50 }, wish);
      await expect(failed).rejects.toMatchObject({ code: status.DEADLINE_EXCEEDED });
      service.during = {};
      expect((await fetchOnDemand(storage, service.access, wish))?.keyId).toBe(keyId(1));
      never.resolve();
    }));
});
