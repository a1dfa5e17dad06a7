import { DAY, type Fixture, HOUR, keyId, mintedCoin, vaultKey, withFixture } from '../../conformance/harness';
import { fetchOnDemand, publishCoins, reconcileCoins, topUp } from '../../index';
import { eachBackend } from '../each-backend';
import { ScriptedCoinService } from './scripted-coin-service';

const backend = eachBackend();
const bob = { contactId: 'bob', userId: keyId(1000) };
const WRONG = { name: 'ClockError', witness: 'SERVICE' };

/** The service has the right time from the beginning, whatever happens to the device's clock. */
function withService(test: (fixture: Fixture, service: ScriptedCoinService) => Promise<void>): Promise<void> {
  return withFixture(backend.harness, async (fixture) => {
    const service = await ScriptedCoinService.start();
    service.serverTime = fixture.clock.now();
    try {
      await fixture.storage.inventory.setPriority('bob', 'BESTIE');
      await test(fixture, service);
    } finally {
      service.stop();
    }
  });
}

const methods = (service: ScriptedCoinService) => service.calls.map(({ method }) => method);

backend.describe('a device with a wrong clock', () => {
  it.each([31 * DAY, 365 * DAY, -31 * DAY])('does not reconcile: no list is sent (%d ms)', (jump) =>
    withService(async ({ storage, clock }, service) => {
      await publishCoins(storage, service.access, [mintedCoin(1), mintedCoin(2)]);
      clock.advance(jump);
      await expect(reconcileCoins(storage, service.access)).rejects.toMatchObject(WRONG);
      expect(methods(service)).not.toContain('reconcileCoins');
      clock.advance(-jump);
      const { results } = await reconcileCoins(storage, service.access);
      expect(results.map(({ outcome }) => outcome)).toStrictEqual(['IN_STOCK', 'IN_STOCK']);
    }),
  );

  it('takes no coin of a contact', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 10, 'GOLD', clock.in(20 * DAY));
      clock.advance(40 * DAY);
      for (let call = 0; call < 3; call += 1) {
        await expect(topUp(storage, service.access, [bob])).rejects.toMatchObject(WRONG);
        const wish = { ...bob, coinCategory: 'GOLD' } as const;
        await expect(fetchOnDemand(storage, service.access, wish)).rejects.toMatchObject(WRONG);
      }
      expect(service.stock).toHaveLength(10);
      clock.advance(-40 * DAY);
      await topUp(storage, service.access, [bob]);
      expect(service.stock).toHaveLength(5);
    }));

  it('that was wrong from the first use on takes coins once, keeps them, and uses them when it is right', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 10, 'GOLD', clock.in(-20 * DAY));
      service.serverTime = clock.in(-40 * DAY);
      for (let call = 0; call < 3; call += 1) {
        await expect(topUp(storage, service.access, [bob])).rejects.toMatchObject(WRONG);
      }
      expect(service.stock).toHaveLength(5);
      expect(await storage.inventory.selectCoin('bob', 'GOLD')).toBeNull();
      clock.advance(-40 * DAY);
      const { contacts } = await topUp(storage, service.access, [bob]);
      expect(contacts[0]?.discarded).toStrictEqual([]);
      expect(service.stock).toHaveLength(5);
      for (const n of [0, 1, 2, 3, 4]) {
        expect((await storage.inventory.selectCoin('bob', 'GOLD'))?.keyId).toBe(keyId(n));
      }
    }));

  it('that was in the past from the first use on keeps the coins that it fetches', () =>
    withService(async ({ storage, clock }, service) => {
      const years = 56 * 365 * DAY;
      service.add(0, 5, 'GOLD', clock.in(years + 20 * DAY));
      service.serverTime = clock.in(years);
      await expect(topUp(storage, service.access, [bob])).rejects.toMatchObject(WRONG);
      clock.advance(years);
      const { contacts } = await topUp(storage, service.access, [bob]);
      expect(contacts[0]).toMatchObject({ discarded: [], missing: { GOLD: 0 } });
      expect((await storage.inventory.selectCoin('bob', 'GOLD'))?.keyId).toBe(keyId(0));
    }));

  it('that was wrong from the first use on loses no coin that it fetches on demand', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 2, 'GOLD', clock.in(-20 * DAY));
      service.serverTime = clock.in(-40 * DAY);
      const wish = { ...bob, coinCategory: 'GOLD' } as const;
      for (let call = 0; call < 3; call += 1) {
        await expect(fetchOnDemand(storage, service.access, wish)).rejects.toMatchObject(WRONG);
      }
      clock.advance(-40 * DAY);
      expect((await fetchOnDemand(storage, service.access, wish))?.keyId).toBe(keyId(0));
      expect(service.stock).toHaveLength(1);
    }));

  it.each([-24 * DAY, -56 * 365 * DAY, 40 * DAY])('stores and sends no minted coin (%d ms)', (jump) =>
    withService(async ({ storage, clock }, service) => {
      await storage.vault.storeKey(vaultKey(9));
      clock.advance(jump);
      await expect(publishCoins(storage, service.access, [mintedCoin(1)])).rejects.toMatchObject(WRONG);
      expect(methods(service)).toStrictEqual(['getInventoryCount']);
      clock.advance(-jump);
      expect(await storage.vault.listKeyIds()).toStrictEqual([keyId(9)]);
      const { results } = await publishCoins(storage, service.access, [mintedCoin(1)]);
      expect(results).toMatchObject([{ outcome: 'INSERTED' }]);
    }),
  );

  it('keeps what waits in the outbox', () =>
    withService(async ({ storage, clock }, service) => {
      service.failNext('uploadCoins', 'before');
      await expect(publishCoins(storage, service.access, [mintedCoin(1)])).rejects.toThrow();
      clock.advance(40 * DAY);
      await expect(publishCoins(storage, service.access, [])).rejects.toMatchObject(WRONG);
      clock.advance(-40 * DAY);
      const { results } = await publishCoins(storage, service.access, []);
      expect(results).toMatchObject([{ keyId: keyId(1), outcome: 'INSERTED' }]);
    }));

  it('that was off for weeks goes on as soon as the service confirms its clock', () =>
    withService(async ({ storage, clock }, service) => {
      clock.advance(60 * DAY);
      service.serverTime = clock.in(HOUR);
      service.add(0, 5, 'GOLD', clock.in(20 * DAY));
      await expect(storage.vault.purgeExpired()).rejects.toMatchObject({ name: 'ClockError', witness: 'STORAGE' });
      await topUp(storage, service.access, [bob]);
      expect(await storage.vault.purgeExpired()).toBe(0);
      expect(service.stock).toHaveLength(0);
    }));
});
