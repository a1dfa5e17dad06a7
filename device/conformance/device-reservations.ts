import { DAY, type Harness, inventoryCoin, keyId, NO_COINS, withFixture } from './harness';

const PHONE = keyId(0xa1);
const LAPTOP = keyId(0xa2);
const bob = { contactId: 'bob', userId: keyId(1000) };

/** Test cases of the devices suite about pending requests. */
export function deviceReservationCases(harness: Harness): void {
  it('reserves the room of every known device, and none of a contact without known devices', () =>
    withFixture(harness, async ({ storage: { inventory, pendingRequests }, clock }) => {
      await inventory.setPriority('bob', 'MATE');
      expect(await pendingRequests.reserveRoom([bob])).toStrictEqual([]);
      expect([...(await pendingRequests.missingCoins([bob]))]).toStrictEqual([['bob', []]]);
      await pendingRequests.learnDevices('bob', [LAPTOP, '']);
      await inventory.storeKey(inventoryCoin(1, clock.in(DAY), { deviceId: LAPTOP, coinCategory: 'SILVER' }));
      const reserved = await pendingRequests.reserveRoom([bob]);
      expect(reserved.map(({ deviceId, coinCategory, count }) => [deviceId, coinCategory, count])).toStrictEqual([
        [undefined, 'SILVER', 6],
        [undefined, 'BRONZE', 4],
        [LAPTOP, 'SILVER', 5],
        [LAPTOP, 'BRONZE', 4],
      ]);
      expect(await pendingRequests.reserveRoom([bob])).toStrictEqual([]);
      expect(new Set(await pendingRequests.resumeTopUps([bob]))).toStrictEqual(new Set(reserved));
      expect([...(await pendingRequests.missingCoins([bob]))]).toStrictEqual([
        [
          'bob',
          [
            { missing: { GOLD: 0, SILVER: 6, BRONZE: 4 } },
            { deviceId: LAPTOP, missing: { GOLD: 0, SILVER: 5, BRONZE: 4 } },
          ],
        ],
      ]);
      // A device that is learned later gets its own room.
      await pendingRequests.learnDevices('bob', [LAPTOP, PHONE, '']);
      expect((await pendingRequests.reserveRoom([bob])).map(({ deviceId, count }) => [deviceId, count])).toStrictEqual([
        [PHONE, 6],
        [PHONE, 4],
      ]);
    }));

  it('reserves for many devices with large budgets', () =>
    withFixture(
      harness,
      async ({ storage: { pendingRequests } }) => {
        const carol = { contactId: 'carol', userId: keyId(1001) };
        await pendingRequests.learnDevices('bob', [PHONE, LAPTOP]);
        const many = Array.from({ length: 30 }, (_, n) => keyId(n + 1));
        await pendingRequests.learnDevices('carol', many);
        const reserved = await pendingRequests.reserveRoom([bob, carol]);
        expect(reserved).toHaveLength(32 * 3);
        expect(new Set(reserved.map(({ requestId }) => requestId)).size).toBe(32 * 3);
        expect(reserved.reduce((sum, { count }) => sum + count, 0)).toBe(32 * 50);
        expect(reserved.slice(6).map(({ deviceId }) => deviceId)).toStrictEqual(many.flatMap((id) => [id, id, id]));
      },
      { budgets: { BESTIE: NO_COINS, MATE: NO_COINS, STRANGER: { ...NO_COINS, GOLD: 50 } } },
    ));

  it('counts the reservation of one device against its budget only', () =>
    withFixture(harness, async ({ storage: { inventory, pendingRequests }, clock }) => {
      await inventory.setPriority('bob', 'BESTIE');
      await pendingRequests.learnDevices('bob', [PHONE]);
      const [gold] = await pendingRequests.reserveRoom([bob]);
      if (gold === undefined) throw new Error('Nothing was reserved.');
      const coin = (n: number, deviceId: string) => inventoryCoin(n, clock.in(DAY), { deviceId });
      expect(await inventory.storeKey(coin(1, PHONE))).toBe(false);
      expect(await inventory.storeKey(coin(2, LAPTOP))).toBe(true);
      const { stored } = await pendingRequests.settleTopUp(gold, [coin(3, PHONE)]);
      expect(stored).toHaveLength(1);
      expect(await inventory.storeKey(coin(1, PHONE))).toBe(true);
      // What does not fit the budget of its own device is discarded.
      for (const n of [4, 5, 6]) await inventory.storeKey(coin(n, PHONE));
      const { discarded } = await pendingRequests.settleTopUp(gold, [coin(7, PHONE)]);
      expect(discarded).toStrictEqual([{ keyId: keyId(7), coinCategory: 'GOLD', reason: 'OVER_BUDGET' }]);
    }));

  it('closes the reservations of each device that do not fit a lower budget', () =>
    withFixture(harness, async ({ storage: { inventory, pendingRequests }, clock }) => {
      await inventory.setPriority('bob', 'BESTIE');
      await pendingRequests.learnDevices('bob', [PHONE, LAPTOP]);
      await inventory.storeKey(inventoryCoin(1, clock.in(DAY), { deviceId: LAPTOP, coinCategory: 'SILVER' }));
      await pendingRequests.reserveRoom([bob]);
      await inventory.setPriority('bob', 'MATE');
      const resumed = await pendingRequests.resumeTopUps([bob]);
      expect(resumed.map(({ deviceId, coinCategory, count }) => [deviceId, coinCategory, count]).sort()).toStrictEqual([
        [PHONE, 'BRONZE', 1],
        [PHONE, 'SILVER', 4],
        [LAPTOP, 'BRONZE', 1],
        [LAPTOP, 'SILVER', 3],
      ]);
      await inventory.setPriority('bob', 'STRANGER');
      expect(await pendingRequests.resumeTopUps([bob])).toStrictEqual([]);
    }));

  it('closes the top-ups of a device that is gone, and discards the coins that still come for it', () =>
    withFixture(harness, async ({ storage: { inventory, pendingRequests }, clock }) => {
      await inventory.setPriority('bob', 'BESTIE');
      await pendingRequests.learnDevices('bob', [PHONE, LAPTOP]);
      const reserved = await pendingRequests.reserveRoom([bob]);
      await pendingRequests.learnDevices('bob', [PHONE]);
      const resumed = await pendingRequests.resumeTopUps([bob]);
      expect(new Set(resumed)).toStrictEqual(new Set(reserved.filter(({ deviceId }) => deviceId === PHONE)));
      const ofLaptop = reserved.find(({ deviceId }) => deviceId === LAPTOP);
      if (ofLaptop === undefined) throw new Error('Nothing was reserved for the laptop.');
      const coin = inventoryCoin(1, clock.in(DAY), { deviceId: LAPTOP });
      expect(await pendingRequests.settleTopUp(ofLaptop, [coin])).toStrictEqual({
        stored: [],
        discarded: [{ keyId: keyId(1), coinCategory: 'GOLD', reason: 'DEVICE_REMOVED' }],
      });
      expect((await inventory.selectCoins('bob', 'GOLD')).map(({ deviceId }) => deviceId)).toStrictEqual([PHONE]);
      expect(await inventory.storeKey(coin)).toBe(false);
    }));

  it('keeps a fetch for several devices apart from every other one, and settles all its coins in one step', () =>
    withFixture(harness, async ({ storage, clock, open }) => {
      const { pendingRequests } = storage;
      const wish = { ...bob, coinCategory: 'GOLD', allowLowerCategories: false } as const;
      const lists = [undefined, [], [''], [LAPTOP, PHONE]];
      const ids = [];
      for (const deviceIds of lists) {
        const request = await pendingRequests.openOnDemand(
          { ...wish, ...(deviceIds && { deviceIds }) },
          { fresh: false },
        );
        expect(request.deviceIds).toStrictEqual(deviceIds && [...deviceIds].sort());
        ids.push(request.requestId);
      }
      expect(new Set(ids).size).toBe(4);
      await storage.close();
      const reopened = (await open()).pendingRequests;
      for (const [index, deviceIds] of lists.entries()) {
        const same = { ...wish, ...(deviceIds && { deviceIds: [...deviceIds, ...deviceIds].reverse() }) };
        expect((await reopened.openOnDemand(same, { fresh: false })).requestId).toBe(ids[index]);
      }
      expect(await reopened.resumeTopUps([bob])).toStrictEqual([]);

      const pair = { ...wish, deviceIds: [PHONE, LAPTOP] };
      const request = await reopened.openOnDemand(pair, { fresh: true });
      const coin = (n: number, deviceId: string) => inventoryCoin(n, clock.in(n * DAY), { deviceId });
      await reopened.discard('bob', [coin(2, LAPTOP)]);
      const expired = { ...coin(3, LAPTOP), expiresAt: clock.now() };
      const coins = [coin(1, PHONE), coin(2, LAPTOP), expired, coin(1, LAPTOP)];
      expect(await reopened.settleOnDemand(request, coins)).toStrictEqual([true, false, false, false]);
      const again = await reopened.openOnDemand(pair, { fresh: true });
      expect(await reopened.settleOnDemand(again, [coin(1, PHONE)])).toStrictEqual([false]);
      expect(await reopened.settleOnDemand(again, [])).toStrictEqual([]);
    }));
}
