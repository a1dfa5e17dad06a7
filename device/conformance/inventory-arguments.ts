import { DAY, type Harness, inventoryCoin, withFixture } from './harness';

/** The part of inventorySuite about refused arguments. */
export function inventoryArgumentCases(harness: Harness): void {
  const badCoins: [field: string, changes: object][] = [
    ['contactId', { contactId: '' }],
    ['contactId', { contactId: 'x'.repeat(129) }],
    ['contactId', { contactId: '\ud800' }],
    ['contactId', { contactId: 7 }],
    ['keyId', { keyId: 'abc' }],
    ['coinCategory', { coinCategory: 'PLATINUM' }],
    ['publicKey', { publicKey: new Uint8Array(1183) }],
    ['publicKey', { publicKey: new Uint8Array(1185) }],
    ['publicKey', { coinCategory: 'BRONZE' }],
    ['signature', { coinCategory: 'SILVER' }],
    ['signature', { signature: [1, 2, 3] }],
    ['expiresAt', { expiresAt: new Date(0) }],
    ['expiresAt', { expiresAt: new Date(Number.NaN) }],
    ['expiresAt', { expiresAt: undefined }],
  ];
  it('refuses a coin with a bad field, names the field, and stores nothing', () =>
    withFixture(harness, async ({ storage: { inventory }, clock }) => {
      await inventory.setPriority('bob', 'BESTIE');
      for (const [field, changes] of badCoins) {
        const coin = { ...inventoryCoin(1, clock.in(DAY)), ...changes };
        await expect(inventory.storeKey(coin)).rejects.toMatchObject({ name: 'InvalidArgumentError', field });
      }
      expect(await inventory.getTotalStorageBytes()).toBe(0);
      expect(await inventory.listContacts()).toStrictEqual(['bob']);
    }));

  it('names the bad argument of every other method and changes nothing', () =>
    withFixture(harness, async ({ storage: { inventory } }) => {
      const bad = 'nonsense' as never;
      await expect(inventory.storeKey(undefined as never)).rejects.toMatchObject({ field: 'coin' });
      await expect(inventory.selectCoin('', 'GOLD')).rejects.toMatchObject({ field: 'contactId' });
      await expect(inventory.selectCoin('bob', bad)).rejects.toMatchObject({ field: 'desired' });
      await expect(inventory.getPriority('')).rejects.toMatchObject({ field: 'contactId' });
      await expect(inventory.setPriority('', 'MATE')).rejects.toMatchObject({ field: 'contactId' });
      await expect(inventory.setPriority('bob', bad)).rejects.toMatchObject({ field: 'priority' });
      await expect(inventory.setPriority('bob', 'toString' as never)).rejects.toMatchObject({ field: 'priority' });
      await expect(inventory.getSummary('')).rejects.toMatchObject({ field: 'contactId' });
      for (const days of [-1, 0.5, 3651, Number.NaN]) {
        await expect(inventory.garbageCollect(days)).rejects.toMatchObject({ field: 'inactiveDays' });
      }
      expect(await inventory.listContacts()).toStrictEqual([]);
    }));
}
