import type { SmartInventory } from '../contract/inventory';
import { DAY, type Harness, HOUR, inventoryCoin, keyId, NO_COINS, withFixture } from './harness';
import { inventoryArgumentCases } from './inventory-arguments';
import { garbageCases } from './inventory-garbage';

/** Tests the promises of SmartInventory on any backend. */
export function inventorySuite(name: string, harness: Harness): void {
  describe(`SmartInventory on ${name}`, () => {
    it('returns a selected coin as it was stored, once', () =>
      withFixture(harness, async ({ storage: { inventory }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        const coin = inventoryCoin(1, clock.in(DAY));
        expect(await inventory.storeKey(coin)).toBe(true);
        expect(await inventory.selectCoin('bob', 'GOLD')).toStrictEqual(coin);
        expect(await inventory.selectCoin('bob', 'GOLD')).toBeNull();
      }));

    it('selects the coin with the earliest expiry, and of several with the same expiry the one stored first', () =>
      withFixture(harness, async ({ storage: { inventory }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        await inventory.storeKey(inventoryCoin(1, clock.in(3 * DAY)));
        await inventory.storeKey(inventoryCoin(4, clock.in(1 * DAY)));
        await inventory.storeKey(inventoryCoin(2, clock.in(2 * DAY)));
        await inventory.storeKey(inventoryCoin(3, clock.in(1 * DAY)));
        expect(await selectAll(inventory)).toStrictEqual([4, 3, 2, 1].map(keyId));
      }));

    it('falls back to lower categories only, the highest first', () =>
      withFixture(harness, async ({ storage: { inventory }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        await inventory.storeKey(inventoryCoin(1, clock.in(HOUR), { coinCategory: 'BRONZE' }));
        await inventory.storeKey(inventoryCoin(2, clock.in(DAY), { coinCategory: 'SILVER' }));
        await inventory.storeKey(inventoryCoin(3, clock.in(DAY), { coinCategory: 'GOLD' }));
        expect((await inventory.selectCoin('bob', 'SILVER'))?.coinCategory).toBe('SILVER');
        expect((await inventory.selectCoin('bob', 'SILVER'))?.coinCategory).toBe('BRONZE');
        expect(await inventory.selectCoin('bob', 'SILVER')).toBeNull();
        expect((await inventory.selectCoin('bob', 'GOLD'))?.coinCategory).toBe('GOLD');
      }));

    it('uses a coin before its expiry, and never at or after it', () =>
      withFixture(harness, async ({ storage: { inventory }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        await inventory.storeKey(inventoryCoin(1, clock.in(DAY)));
        await inventory.storeKey(inventoryCoin(2, clock.in(DAY)));
        clock.advance(DAY - 1);
        expect((await inventory.selectCoin('bob', 'GOLD'))?.keyId).toBe(keyId(1));
        clock.advance(1);
        expect(await inventory.selectCoin('bob', 'GOLD')).toBeNull();
        expect((await inventory.getSummary('bob'))[0]?.counts.GOLD).toBe(0);
      }));

    it.each([
      ['BESTIE', [5, 4, 1]],
      ['MATE', [0, 6, 4]],
      ['STRANGER', [0, 0, 0]],
    ] as const)('stores for a %s exactly %p coins of GOLD, SILVER and BRONZE', (priority, budget) =>
      withFixture(harness, async ({ storage: { inventory }, clock }) => {
        await inventory.setPriority('bob', priority);
        const stored = [0, 0, 0];
        for (const [index, coinCategory] of (['GOLD', 'SILVER', 'BRONZE'] as const).entries()) {
          for (let n = 0; n < 8; n += 1) {
            const coin = inventoryCoin(index * 100 + n, clock.in(DAY), { coinCategory });
            if (await inventory.storeKey(coin)) stored[index] = (stored[index] ?? 0) + 1;
          }
        }
        expect(stored).toStrictEqual(budget);
        expect(await countsOf(inventory)).toStrictEqual(budget);
      }),
    );

    it('counts each contact separately, and lets two contacts have coins with the same id', () =>
      withFixture(harness, async ({ storage: { inventory }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        await inventory.setPriority('carol', 'BESTIE');
        for (const contactId of ['bob', 'carol']) {
          for (let n = 0; n < 6; n += 1) {
            expect(await inventory.storeKey(inventoryCoin(n, clock.in(DAY), { contactId }))).toBe(n < 5);
          }
        }
      }));

    it('does not count expired coins against the budget', () =>
      withFixture(harness, async ({ storage: { inventory }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        for (let n = 0; n < 5; n += 1) await inventory.storeKey(inventoryCoin(n, clock.in(DAY)));
        expect(await inventory.storeKey(inventoryCoin(9, clock.in(3 * DAY)))).toBe(false);
        clock.advance(DAY);
        expect(await inventory.storeKey(inventoryCoin(9, clock.in(3 * DAY)))).toBe(true);
        expect(await selectAll(inventory)).toStrictEqual([keyId(9)]);
      }));

    it('counts pending reservations against the budget', () =>
      withFixture(harness, async ({ storage: { inventory, pendingRequests }, clock }) => {
        const contact = { contactId: 'bob', userId: keyId(77) };
        await inventory.setPriority('bob', 'BESTIE');
        await inventory.storeKey(inventoryCoin(1, clock.in(DAY)));
        const reserved = await pendingRequests.reserveRoom([contact]);
        expect(reserved.map(({ coinCategory, count }) => [coinCategory, count])).toStrictEqual([
          ['GOLD', 4],
          ['SILVER', 4],
          ['BRONZE', 1],
        ]);
        expect(await pendingRequests.reserveRoom([contact])).toStrictEqual([]);
        expect(await inventory.storeKey(inventoryCoin(2, clock.in(DAY)))).toBe(false);
        const [gold] = reserved;
        if (gold === undefined) throw new Error('Nothing was reserved.');
        await pendingRequests.settleTopUp(gold, [inventoryCoin(3, clock.in(DAY))]);
        expect(await inventory.storeKey(inventoryCoin(2, clock.in(DAY)))).toBe(true);
        expect(await countsOf(inventory)).toStrictEqual([3, 0, 0]);
      }));

    it('uses the budgets of the config', () =>
      withFixture(
        harness,
        async ({ storage: { inventory, pendingRequests }, clock }) => {
          expect(await inventory.storeKey(inventoryCoin(1, clock.in(DAY)))).toBe(true);
          const requests = await pendingRequests.reserveRoom([{ contactId: 'bob', userId: keyId(77) }]);
          expect(requests.map(({ count }) => count)).toStrictEqual([20, 20, 4]);
        },
        {
          budgets: {
            BESTIE: NO_COINS,
            MATE: NO_COINS,
            STRANGER: { ...NO_COINS, GOLD: 45 },
          },
        },
      ));

    it('stores no coin twice, neither while it is stored nor after it was selected', () =>
      withFixture(harness, async ({ storage: { inventory }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        const coin = inventoryCoin(1, clock.in(2 * DAY));
        await inventory.storeKey(coin);
        expect(await inventory.storeKey({ ...coin, keyId: coin.keyId.toUpperCase() })).toBe(false);
        await inventory.selectCoin('bob', 'GOLD');
        expect(await inventory.storeKey(coin)).toBe(false);
        clock.advance(2 * DAY - 1);
        expect(await inventory.storeKey(coin)).toBe(false);
        expect(await inventory.selectCoin('bob', 'GOLD')).toBeNull();
      }));

    it('evicts the most recently stored coins when the priority is lowered, and never stores them again', () =>
      withFixture(harness, async ({ storage: { inventory }, clock }) => {
        expect(await inventory.setPriority('bob', 'BESTIE')).toStrictEqual({ evicted: [] });
        await inventory.storeKey(inventoryCoin(1, clock.in(2 * DAY)));
        for (const n of [10, 11, 12, 13]) {
          await inventory.storeKey(inventoryCoin(n, clock.in(2 * DAY), { coinCategory: 'SILVER' }));
        }
        expect(await inventory.setPriority('bob', 'MATE')).toStrictEqual({
          evicted: [{ keyId: keyId(1), coinCategory: 'GOLD' }],
        });
        for (const n of [14, 15]) {
          await inventory.storeKey(inventoryCoin(n, clock.in(1 * DAY), { coinCategory: 'SILVER' }));
        }
        const { evicted } = await inventory.setPriority('bob', 'BESTIE');
        expect(evicted.map(({ keyId }) => keyId).sort()).toStrictEqual([14, 15].map(keyId));
        expect(await inventory.storeKey(inventoryCoin(1, clock.in(DAY)))).toBe(false);
        expect(await inventory.storeKey(inventoryCoin(2, clock.in(DAY)))).toBe(true);
        expect(await countsOf(inventory)).toStrictEqual([1, 4, 0]);
      }));

    it('treats a contact as a stranger unless a priority was set', () =>
      withFixture(harness, async ({ storage: { inventory }, clock }) => {
        expect(await inventory.getPriority('bob')).toBe('STRANGER');
        expect(await inventory.storeKey(inventoryCoin(1, clock.in(DAY)))).toBe(false);
        await inventory.setPriority('bob', 'MATE');
        expect(await inventory.getPriority('bob')).toBe('MATE');
      }));

    it('summarizes contacts: priority, usable coins, last use', () =>
      withFixture(harness, async ({ storage: { inventory }, clock }) => {
        const zero = { GOLD: 0, SILVER: 0, BRONZE: 0 };
        expect(await inventory.getSummary()).toStrictEqual([]);
        await inventory.setPriority('carol', 'MATE');
        await inventory.setPriority('bob', 'BESTIE');
        clock.advance(HOUR);
        const storedAt = clock.now();
        await inventory.storeKey(inventoryCoin(1, clock.in(DAY)));
        await inventory.storeKey(inventoryCoin(2, clock.in(DAY), { coinCategory: 'BRONZE' }));
        const carol = { contactId: 'carol', priority: 'MATE', counts: zero, devices: [], lastUsedAt: null };
        const bob = {
          contactId: 'bob',
          priority: 'BESTIE',
          counts: { ...zero, GOLD: 1, BRONZE: 1 },
          devices: [{ counts: { ...zero, GOLD: 1, BRONZE: 1 } }],
          lastUsedAt: storedAt,
        };
        expect(await inventory.getSummary()).toStrictEqual([bob, carol]);
        expect(await inventory.listContacts()).toStrictEqual(['bob', 'carol']);
        clock.advance(HOUR);
        await inventory.selectCoin('bob', 'GOLD');
        expect(await inventory.getSummary('bob')).toStrictEqual([
          {
            ...bob,
            counts: { ...zero, BRONZE: 1 },
            devices: [{ counts: { ...zero, BRONZE: 1 } }],
            lastUsedAt: clock.now(),
          },
        ]);
        expect(await inventory.getSummary('dave')).toStrictEqual([
          { contactId: 'dave', priority: 'STRANGER', counts: zero, devices: [], lastUsedAt: null },
        ]);
        expect(await inventory.listContacts()).toStrictEqual(['bob', 'carol']);
      }));

    it('returns the number of bytes that the stored coins take', () =>
      withFixture(harness, async ({ storage: { inventory }, clock }) => {
        expect(await inventory.getTotalStorageBytes()).toBe(0);
        await inventory.setPriority('bob', 'BESTIE');
        await inventory.storeKey(inventoryCoin(1, clock.in(DAY)));
        await inventory.storeKey(inventoryCoin(2, clock.in(DAY), { coinCategory: 'SILVER' }));
        await inventory.storeKey(inventoryCoin(3, clock.in(DAY), { coinCategory: 'BRONZE' }));
        expect(await inventory.getTotalStorageBytes()).toBe(1184 + 2420 + 36 + (1184 + 64 + 36) + (32 + 64 + 36));
        await inventory.selectCoin('bob', 'GOLD');
        expect(await inventory.getTotalStorageBytes()).toBe(1184 + 64 + 36 + (32 + 64 + 36));
      }));

    it('gives each coin to exactly one of many concurrent callers', () =>
      withFixture(harness, async ({ storage, open, clock }) => {
        await storage.inventory.setPriority('bob', 'BESTIE');
        for (let n = 0; n < 5; n += 1) await storage.inventory.storeKey(inventoryCoin(n, clock.in(DAY)));
        const other = await open();
        const selections = Array.from({ length: 12 }, (_, n) =>
          (n % 2 ? other : storage).inventory.selectCoin('bob', 'GOLD'),
        );
        const ids = (await Promise.all(selections)).flatMap((coin) => (coin === null ? [] : [coin.keyId]));
        expect(ids.sort()).toStrictEqual([0, 1, 2, 3, 4].map(keyId));
      }));

    it('accepts any contact id of 1 to 128 characters', () =>
      withFixture(harness, async ({ storage: { inventory } }) => {
        const names = ['🦊'.repeat(128), "Robert'); DROP TABLE contact;--", '__proto__', 'é', 'e\u0301', ' '];
        for (const name of names) await inventory.setPriority(name, 'MATE');
        expect((await inventory.listContacts()).sort()).toStrictEqual([...names].sort());
        expect((await inventory.getSummary()).every(({ priority }) => priority === 'MATE')).toBe(true);
      }));

    garbageCases(harness);
    inventoryArgumentCases(harness);
  });
}

async function selectAll(inventory: SmartInventory): Promise<string[]> {
  const ids: string[] = [];
  for (;;) {
    const coin = await inventory.selectCoin('bob', 'GOLD');
    if (coin === null) return ids;
    ids.push(coin.keyId);
  }
}

async function countsOf(inventory: SmartInventory): Promise<number[]> {
  const [bob] = await inventory.getSummary('bob');
  return [bob?.counts.GOLD ?? -1, bob?.counts.SILVER ?? -1, bob?.counts.BRONZE ?? -1];
}
