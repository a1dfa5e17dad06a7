import { DAY, type Harness, HOUR, inventoryCoin, keyId, mintedCoin, passTime, vaultKey, withFixture } from './harness';

const EPOCH = '11111111-1111-4111-8111-111111111111';
const YEAR = 365 * DAY;

/**
 * Tests on any backend that a wrong clock of the device destroys nothing and brings nothing back (promise 5). The clock
 * jumps, the storage is used, and the clock is set right again.
 */
export function clockSuite(name: string, harness: Harness): void {
  describe(`${name} while the device’s clock is wrong`, () => {
    it.each([
      ['40 days ahead', 40 * DAY],
      ['a year ahead', YEAR],
      ['24 days behind', -24 * DAY],
      ['56 years behind', -56 * YEAR],
    ])('%s, refuses to purge and to collect, and loses nothing', (_, jump) =>
      withFixture(harness, async ({ storage, open, clock }) => {
        const { inventory } = storage;
        await inventory.setPriority('bob', 'BESTIE');
        for (const n of [1, 2, 3]) await storage.vault.storeKey(vaultKey(n));
        for (const n of [4, 5]) await inventory.storeKey(inventoryCoin(n, clock.in(20 * DAY)));
        await storage.vault.burnKey(keyId(3));
        expect((await inventory.selectCoin('bob', 'GOLD'))?.keyId).toBe(keyId(4));
        await storage.outbox.add([mintedCoin(6)]);
        const right = clock.now();

        clock.advance(jump);
        const wrong = { name: 'ClockError', deviceTime: clock.now(), otherTime: right, witness: 'STORAGE' };
        const reopened = await open();
        for (const handle of [storage, reopened]) {
          await expect(handle.vault.purgeExpired()).rejects.toMatchObject(wrong);
          await expect(handle.vault.purgeExpired(0, { evenIfOwed: true })).rejects.toMatchObject(wrong);
          await expect(handle.inventory.garbageCollect(0)).rejects.toMatchObject(wrong);
        }
        // Everything that tidies as it goes.
        await reopened.inventory.setPriority('carol', 'BESTIE');
        expect(await reopened.vault.getStatus(keyId(3))).toBe('BURNED');
        expect(await reopened.vault.storeKey(vaultKey(3)).catch(({ name }) => name)).toBe(
          jump < 0 ? 'ClockError' : false,
        );
        expect((await reopened.outbox.takeBatch(EPOCH, 0, 10)).dropped).toStrictEqual([]);
        await reopened.pendingRequests.reserveRoom([{ contactId: 'carol', userId: keyId(77) }]);

        clock.advance(-jump);
        for (const handle of [storage, reopened, await open()]) {
          expect(await handle.vault.listKeyIds()).toStrictEqual([1, 2, 6].map(keyId));
          expect(await handle.vault.getStatus(keyId(3))).toBe('BURNED');
          expect(await handle.vault.storeKey(vaultKey(3))).toBe(false);
          expect(await handle.inventory.storeKey(inventoryCoin(4, clock.in(20 * DAY)))).toBe(false);
          expect((await handle.outbox.takeBatch(EPOCH, 0, 10)).coins.map((coin) => coin.keyId)).toStrictEqual([
            keyId(6),
          ]);
          expect(await handle.vault.purgeExpired()).toBe(0);
          expect(await handle.inventory.garbageCollect()).toBe(0);
        }
        expect((await storage.inventory.selectCoin('bob', 'GOLD'))?.keyId).toBe(keyId(5));
      }),
    );

    it('hands out nothing that has expired by either clock, and keeps it', () =>
      withFixture(harness, async ({ storage: { vault, inventory }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        await vault.storeKey(vaultKey(1, { expiresAt: clock.in(HOUR) }));
        await inventory.storeKey(inventoryCoin(2, clock.in(HOUR)));
        clock.advance(40 * DAY);
        expect(await vault.fetchKey(keyId(1))).toBeNull();
        expect(await inventory.selectCoin('bob', 'GOLD')).toBeNull();
        clock.advance(-40 * DAY);
        expect(await vault.fetchKey(keyId(1))).not.toBeNull();
        expect((await inventory.selectCoin('bob', 'GOLD'))?.keyId).toBe(keyId(2));
        clock.advance(2 * HOUR);
        expect(await vault.fetchKey(keyId(1))).toBeNull();
        clock.advance(-30 * DAY);
        expect(await vault.fetchKey(keyId(1))).toBeNull();
      }));

    it('replaces a coin that has expired by one of the clocks when its id is stored again', () =>
      withFixture(harness, async ({ storage: { vault, inventory }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        await inventory.storeKey(inventoryCoin(1, clock.in(HOUR)));
        const bytes = await inventory.getTotalStorageBytes();
        clock.advance(3 * HOUR);
        // Moves the trusted time forward, and leaves the coin where it is.
        await vault.countActive('GOLD');
        clock.advance(-2.5 * HOUR);
        const expiresAt = clock.in(20 * DAY);
        expect(await inventory.storeKey(inventoryCoin(1, expiresAt))).toBe(true);
        expect(await inventory.getTotalStorageBytes()).toBe(bytes);
        expect(await inventory.selectCoin('bob', 'GOLD')).toMatchObject({ keyId: keyId(1), expiresAt });
        expect(await inventory.getTotalStorageBytes()).toBe(0);
      }));

    it('trusts it again when the service confirms it, and after a first use with a wrong one', () =>
      withFixture(harness, async ({ storage, open, clock }) => {
        await storage.vault.storeKey(vaultKey(1));
        await passTime({ storage, clock }, 31 * DAY);
        expect(await storage.vault.purgeExpired()).toBe(1);
        // The date was wrong until now: it is set back by a year.
        clock.advance(-YEAR);
        await expect(storage.vault.storeKey(vaultKey(2))).rejects.toMatchObject({ name: 'ClockError' });
        const other = await open();
        await other.clock.confirm(clock.in(HOUR));
        for (const handle of [storage, other]) await handle.clock.check();
        expect(await storage.vault.storeKey(vaultKey(2))).toBe(true);
        expect(await other.vault.getStatus(keyId(2))).toBe('ACTIVE');
      }));

    it('does not trust a clock that the service contradicts, from the first moment on', () =>
      withFixture(harness, async ({ storage, clock }) => {
        const serverTime = clock.in(-YEAR);
        await expect(storage.clock.confirm(serverTime)).rejects.toMatchObject({
          name: 'ClockError',
          deviceTime: clock.now(),
          otherTime: serverTime,
          witness: 'SERVICE',
        });
        await expect(storage.vault.purgeExpired()).rejects.toMatchObject({ name: 'ClockError' });
        await storage.clock.confirm(clock.in(DAY));
        expect(await storage.vault.purgeExpired()).toBe(0);
      }));

    it('accepts a day, as the clock of a device that was off over night', () =>
      withFixture(harness, async ({ storage, clock }) => {
        await storage.vault.storeKey(vaultKey(1, { expiresAt: clock.in(DAY) }));
        clock.advance(DAY);
        expect(await storage.vault.purgeExpired()).toBe(1);
        clock.advance(DAY + 1);
        await expect(storage.vault.purgeExpired()).rejects.toMatchObject({ name: 'ClockError' });
      }));
  });
}
