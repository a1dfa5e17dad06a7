import type { DeviceStorage } from '../contract/device-storage';
import { RESERVATION_MS } from '../contract/pending-requests';
import { DAY, type Harness, HOUR, inventoryCoin, keyId, NO_COINS, withFixture } from './harness';

const bob = { contactId: 'bob', userId: keyId(1000) };

/** Tests what setPriority and time do to the room that pending top-ups reserve, on any backend. */
export function reservationSuite(name: string, harness: Harness): void {
  describe(`Reservations on ${name}`, () => {
    it('closes the reservations that do not fit a lower budget, and keeps the others', () =>
      withFixture(harness, async ({ storage: { inventory, pendingRequests } }) => {
        await inventory.setPriority('bob', 'BESTIE');
        await pendingRequests.learnDevices('bob', ['']);
        await pendingRequests.reserveRoom([bob]);
        await inventory.setPriority('bob', 'MATE');
        const resumed = await pendingRequests.resumeTopUps([bob]);
        expect(resumed.map(({ coinCategory, count }) => [coinCategory, count]).sort()).toStrictEqual([
          ['BRONZE', 1],
          ['SILVER', 4],
        ]);
        await inventory.setPriority('bob', 'STRANGER');
        expect(await pendingRequests.resumeTopUps([bob])).toStrictEqual([]);
      }));

    it('keeps of several reservations the one attempted last, as far as the cached coins leave room', () =>
      withFixture(
        harness,
        async ({ storage: { inventory, pendingRequests }, clock }) => {
          await inventory.setPriority('bob', 'BESTIE');
          await inventory.storeKey(inventoryCoin(1, clock.in(DAY)));
          await pendingRequests.learnDevices('bob', ['']);
          const [first] = await pendingRequests.reserveRoom([bob]);
          await inventory.selectCoin('bob', 'GOLD');
          clock.advance(1);
          const [second] = await pendingRequests.reserveRoom([bob]);
          expect([first?.count, second?.count]).toStrictEqual([4, 1]);
          await inventory.setPriority('bob', 'MATE');
          expect((await pendingRequests.resumeTopUps([bob])).map(({ requestId }) => requestId)).toStrictEqual([
            second?.requestId,
          ]);
        },
        {
          budgets: {
            BESTIE: { ...NO_COINS, GOLD: 5 },
            MATE: { ...NO_COINS, GOLD: 4 },
            STRANGER: NO_COINS,
          },
        },
      ));

    it('stores the coins of a request that setPriority closed, as far as the budget allows', () =>
      withFixture(harness, async ({ storage: { inventory, pendingRequests }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        const gold = await reserveGold({ pendingRequests });
        await inventory.setPriority('bob', 'STRANGER');
        await inventory.setPriority('bob', 'BESTIE');
        const settled = await pendingRequests.settleTopUp(gold, [inventoryCoin(1, clock.in(DAY))]);
        expect(settled.stored).toHaveLength(1);
      }));

    it('counts a reservation as taken room until its coins can no longer come', () =>
      withFixture(harness, async ({ storage: { inventory, pendingRequests }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        await reserveGold({ pendingRequests });
        clock.advance(RESERVATION_MS - 1);
        expect(await inventory.storeKey(inventoryCoin(1, clock.in(DAY)))).toBe(false);
        clock.advance(1);
        expect(await inventory.storeKey(inventoryCoin(1, clock.in(DAY)))).toBe(true);
      }));

    it('counts from the last attempt, and not at all if the clock was far ahead then', () =>
      withFixture(harness, async ({ storage: { inventory, pendingRequests }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        const gold = await reserveGold({ pendingRequests });
        clock.advance(HOUR);
        await pendingRequests.recordAttempts([gold]);
        clock.advance(RESERVATION_MS - 1);
        expect(await inventory.storeKey(inventoryCoin(1, clock.in(DAY)))).toBe(false);
        // A clock that was ahead for a while.
        clock.advance(2 * DAY);
        await pendingRequests.recordAttempts([gold]);
        clock.advance(-2 * DAY);
        expect(await inventory.storeKey(inventoryCoin(1, clock.in(DAY)))).toBe(true);
      }));

    it('repeats an old reservation that still has room, and closes one that has none', () =>
      withFixture(harness, async ({ storage: { inventory, pendingRequests }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        const gold = await reserveGold({ pendingRequests });
        clock.advance(2 * HOUR);
        const goldIn = async () =>
          (await pendingRequests.resumeTopUps([bob])).filter(({ coinCategory }) => coinCategory === 'GOLD');
        expect(await goldIn()).toStrictEqual([gold]);
        // The repeat reserves its room again.
        expect(await inventory.storeKey(inventoryCoin(1, clock.in(DAY)))).toBe(false);
        clock.advance(2 * HOUR);
        expect(await inventory.storeKey(inventoryCoin(1, clock.in(DAY)))).toBe(true);
        expect(await goldIn()).toStrictEqual([]);
        expect((await pendingRequests.reserveRoom([bob])).map(({ count }) => count)).toStrictEqual([4]);
      }));
  });
}

/** Reserves all room, and returns the request for GOLD. */
async function reserveGold({ pendingRequests }: Pick<DeviceStorage, 'pendingRequests'>) {
  await pendingRequests.learnDevices('bob', ['']);
  const [gold] = await pendingRequests.reserveRoom([bob]);
  if (gold?.coinCategory !== 'GOLD') throw new Error('Nothing was reserved.');
  return gold;
}
