import { DEFAULT_BUDGETS } from '../contract/budget';
import type { SmartInventory } from '../contract/inventory';
import { DAY, type Harness, inventoryCoin, keyId, type ManualClock, NO_COINS, passTime, withFixture } from './harness';

/** The part of inventorySuite about garbageCollect. */
export function garbageCases(harness: Harness): void {
  it('removes the coins of inactive contacts and keeps their priority', () =>
    withFixture(harness, async (fixture) => {
      const { clock } = fixture;
      const { inventory } = fixture.storage;
      await fill(inventory, clock, 'bob', 40 * DAY);
      await fill(inventory, clock, 'carol', 40 * DAY);
      await passTime(fixture, 20 * DAY);
      await inventory.selectCoin('carol', 'GOLD');
      await passTime(fixture, 10 * DAY - 1);
      expect(await inventory.garbageCollect()).toBe(0);
      clock.advance(1);
      expect(await inventory.garbageCollect()).toBe(3);
      expect(await inventory.getPriority('bob')).toBe('BESTIE');
      expect((await inventory.getSummary('bob'))[0]?.counts).toStrictEqual({ GOLD: 0, SILVER: 0, BRONZE: 0 });
      expect((await inventory.getSummary('carol'))[0]?.counts.GOLD).toBe(2);
      expect(await inventory.garbageCollect(5)).toBe(2);
    }));

  it('counts the expired coins of inactive contacts among the removed ones', () =>
    withFixture(harness, async (fixture) => {
      const { inventory } = fixture.storage;
      await fill(inventory, fixture.clock, 'bob', 23 * DAY);
      await passTime(fixture, 30 * DAY);
      expect(await inventory.garbageCollect()).toBe(3);
      expect(await inventory.getTotalStorageBytes()).toBe(0);
    }));

  it('also removes the expired coins of active contacts, without counting them', () =>
    withFixture(harness, async ({ storage: { inventory }, clock }) => {
      await fill(inventory, clock, 'bob', DAY);
      await inventory.storeKey(inventoryCoin(4, clock.in(40 * DAY), { coinCategory: 'BRONZE' }));
      clock.advance(DAY);
      expect(await inventory.getTotalStorageBytes()).toBe(3 * (1184 + 2420 + 36) + (32 + 64 + 36));
      expect(await inventory.garbageCollect()).toBe(0);
      expect(await inventory.getTotalStorageBytes()).toBe(32 + 64 + 36);
      expect((await inventory.selectCoin('bob', 'GOLD'))?.keyId).toBe(keyId(4));
    }));

  it('forgets inactive contacts without a priority, and no others', () =>
    withFixture(
      harness,
      async (fixture) => {
        const { clock } = fixture;
        const { inventory } = fixture.storage;
        await fill(inventory, clock, 'bob', 40 * DAY);
        await inventory.storeKey(inventoryCoin(1, clock.in(40 * DAY), { contactId: 'stranger' }));
        await passTime(fixture, 30 * DAY - 1);
        expect(await inventory.garbageCollect()).toBe(0);
        expect(await inventory.listContacts()).toStrictEqual(['bob', 'stranger']);
        clock.advance(1);
        expect(await inventory.garbageCollect()).toBe(4);
        expect(await inventory.listContacts()).toStrictEqual(['bob']);
      },
      { budgets: { ...DEFAULT_BUDGETS, STRANGER: { ...NO_COINS, GOLD: 1 } } },
    ));
}

async function fill(inventory: SmartInventory, clock: ManualClock, contactId: string, life: number): Promise<void> {
  await inventory.setPriority(contactId, 'BESTIE');
  for (const n of [1, 2, 3]) await inventory.storeKey(inventoryCoin(n, clock.in(life), { contactId }));
}
