import { DAY, type Harness, inventoryCoin, keyId, mintedCoin, vaultKey, withFixture } from './harness';

const EPOCH = '11111111-1111-4111-8111-111111111111';

/**
 * Tests on any backend that data survives closing and reopening, and that another handle sees every
 * change immediately.
 */
export function reopenSuite(name: string, harness: Harness): void {
  describe(`closing and reopening ${name}`, () => {
    it('keeps keys, and the memory of burned ones', () =>
      withFixture(harness, async ({ storage, open }) => {
        await storage.vault.storeKey(vaultKey(1));
        await storage.vault.storeKey(vaultKey(2));
        await storage.vault.burnKey(keyId(2));
        await storage.close();
        const { vault } = await open();
        expect((await vault.fetchKey(keyId(1)))?.encryptedBlob).toStrictEqual(vaultKey(1).encryptedBlob);
        expect(await vault.getStatus(keyId(2))).toBe('BURNED');
        expect(await vault.storeKey(vaultKey(2))).toBe(false);
      }));

    it('keeps coins, priorities, and the memory of used ids', () =>
      withFixture(harness, async ({ storage, open, clock }) => {
        await storage.inventory.setPriority('bob', 'BESTIE');
        await storage.inventory.storeKey(inventoryCoin(1, clock.in(DAY)));
        await storage.inventory.storeKey(inventoryCoin(2, clock.in(2 * DAY)));
        const selected = await storage.inventory.selectCoin('bob', 'GOLD');
        await storage.close();
        const { inventory } = await open();
        expect(selected?.keyId).toBe(keyId(1));
        expect(await inventory.getPriority('bob')).toBe('BESTIE');
        expect(await inventory.storeKey(inventoryCoin(1, clock.in(DAY)))).toBe(false);
        expect(await inventory.selectCoin('bob', 'GOLD')).toStrictEqual(inventoryCoin(2, clock.in(2 * DAY)));
      }));

    it('keeps unacknowledged coins and the epoch under which they were sent', () =>
      withFixture(harness, async ({ storage, open }) => {
        await storage.outbox.add([mintedCoin(1), mintedCoin(2)]);
        expect((await storage.outbox.takeBatch(EPOCH, 0, 1)).coins.map(({ keyId }) => keyId)).toStrictEqual([keyId(1)]);
        await storage.close();
        const { outbox, vault } = await open();
        const { coins, dropped } = await outbox.takeBatch(keyId(99), 0, 100);
        expect(dropped).toStrictEqual([{ keyId: keyId(1), coinCategory: 'GOLD', reason: 'EPOCH_CHANGED' }]);
        expect(coins.map(({ keyId }) => keyId)).toStrictEqual([keyId(2)]);
        expect(await vault.listKeyIds('GOLD')).toStrictEqual([keyId(1), keyId(2)]);
      }));

    it('keeps pending requests, to repeat them with the same id and parameters', () =>
      withFixture(harness, async ({ storage, open }) => {
        const contact = { contactId: 'bob', userId: keyId(77) };
        await storage.inventory.setPriority('bob', 'MATE');
        await storage.pendingRequests.learnDevices('bob', ['']);
        const reserved = await storage.pendingRequests.reserveRoom([contact]);
        const wish = { ...contact, coinCategory: 'GOLD', allowLowerCategories: true } as const;
        const onDemand = await storage.pendingRequests.openOnDemand(wish, { fresh: false });
        await storage.close();
        const { pendingRequests } = await open();
        const resumed = await pendingRequests.resumeTopUps([contact]);
        expect(new Set(resumed)).toEqual(new Set(reserved));
        expect(await pendingRequests.reserveRoom([contact])).toStrictEqual([]);
        const found = await pendingRequests.openOnDemand(wish, { fresh: false });
        expect(found).toStrictEqual({ ...onDemand, isResumed: true });
      }));

    it('shows every change to a second handle immediately', () =>
      withFixture(harness, async ({ storage, open, clock }) => {
        const other = await open();
        await storage.vault.storeKey(vaultKey(1));
        expect(await other.vault.burnKey(keyId(1))).toBe(true);
        expect(await storage.vault.fetchKey(keyId(1))).toBeNull();
        await other.inventory.setPriority('bob', 'BESTIE');
        expect(await storage.inventory.storeKey(inventoryCoin(1, clock.in(DAY)))).toBe(true);
        expect(await other.inventory.selectCoin('bob', 'GOLD')).not.toBeNull();
        await other.close();
        expect(await storage.inventory.selectCoin('bob', 'GOLD')).toBeNull();
      }));

    it('rejects every call after close with ClosedError, and can be closed twice', () =>
      withFixture(harness, async ({ storage, clock }) => {
        await storage.close();
        await storage.close();
        const { vault, inventory, outbox, pendingRequests } = storage;
        const contact = { contactId: 'bob', userId: keyId(77) };
        const calls = [
          () => vault.storeKey(vaultKey(1)),
          () => vault.fetchKey(keyId(1)),
          () => vault.burnKey(keyId(1)),
          () => vault.getStatus(keyId(1)),
          () => vault.countActive('GOLD'),
          () => vault.listKeyIds(),
          () => vault.purgeExpired(),
          () => inventory.storeKey(inventoryCoin(1, clock.in(DAY))),
          () => inventory.selectCoin('bob', 'GOLD'),
          () => inventory.selectCoins('bob', 'GOLD'),
          () => inventory.getPriority('bob'),
          () => inventory.setPriority('bob', 'MATE'),
          () => inventory.getSummary(),
          () => inventory.listContacts(),
          () => inventory.getTotalStorageBytes(),
          () => inventory.garbageCollect(),
          () => outbox.add([mintedCoin(1)]),
          () => outbox.takeBatch(EPOCH, 0, 1),
          () => outbox.acknowledge([keyId(1)]),
          () => outbox.remove([keyId(1)], 'SPENT'),
          () => outbox.conflictsAmong([keyId(1)]),
          () => outbox.publishAgain(EPOCH, [keyId(1)]),
          () => pendingRequests.learnDevices('carol', []),
          () => pendingRequests.reserveRoom([contact]),
        ];
        for (const call of calls) await expect(call()).rejects.toMatchObject({ name: 'ClosedError' });
      }));
  });
}
