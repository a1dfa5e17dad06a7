import { DAY, type Harness, HOUR, inventoryCoin, keyId, NO_COINS, withFixture } from './harness';

const bob = { contactId: 'bob', userId: keyId(1000) };
const carol = { contactId: 'carol', userId: keyId(1001) };
const wish = { ...bob, coinCategory: 'GOLD', allowLowerCategories: false } as const;

/** Tests forgetContact and dropCachedCoins on any backend. */
export function forgettingSuite(name: string, harness: Harness): void {
  describe(`Forgetting contacts and coins on ${name}`, () => {
    it('forgets a contact: its coins, priority, pending requests and name', () =>
      withFixture(harness, async ({ storage: { inventory, pendingRequests }, clock }) => {
        for (const contactId of ['bob', 'carol']) {
          await inventory.setPriority(contactId, 'BESTIE');
          await inventory.storeKey(inventoryCoin(1, clock.in(DAY), { contactId }));
          await inventory.storeKey(inventoryCoin(2, clock.in(DAY), { contactId, coinCategory: 'BRONZE' }));
        }
        await pendingRequests.learnDevices('bob', ['']);
        await pendingRequests.reserveRoom([bob, carol]);
        const onDemand = await pendingRequests.openOnDemand(wish, { fresh: true });
        await pendingRequests.release(onDemand);

        expect(await inventory.forgetContact('bob')).toBe(2);
        expect(await inventory.listContacts()).toStrictEqual(['carol']);
        expect((await inventory.getSummary()).map(({ contactId }) => contactId)).toStrictEqual(['carol']);
        expect(await inventory.getPriority('bob')).toBe('STRANGER');
        expect((await inventory.getSummary('bob'))[0]).toMatchObject({ counts: { GOLD: 0 }, lastUsedAt: null });
        expect(await pendingRequests.resumeTopUps([bob])).toStrictEqual([]);
        const next = await pendingRequests.openOnDemand(wish, { fresh: false });
        expect(next.requestId).not.toBe(onDemand.requestId);
        // The other contact keeps everything.
        expect((await inventory.getSummary('carol'))[0]?.counts).toStrictEqual({ GOLD: 1, SILVER: 0, BRONZE: 1 });
        expect(await pendingRequests.resumeTopUps([carol])).toHaveLength(2);
      }));

    it('remembers the used ids of a forgotten contact until they expire', () =>
      withFixture(harness, async ({ storage: { inventory }, open, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        await inventory.storeKey(inventoryCoin(1, clock.in(DAY)));
        await inventory.storeKey(inventoryCoin(2, clock.in(DAY)));
        await inventory.selectCoin('bob', 'GOLD');
        await inventory.forgetContact('bob');
        await inventory.garbageCollect(0);
        const again = (await open()).inventory;
        await again.setPriority('bob', 'BESTIE');
        for (const number of [1, 2]) {
          expect(await again.storeKey(inventoryCoin(number, clock.in(2 * DAY)))).toBe(false);
        }
        clock.advance(DAY);
        expect(await again.storeKey(inventoryCoin(1, clock.in(DAY)))).toBe(true);
      }));

    it('discards the coins of a top-up that was in flight, and does not bring the contact back', () =>
      withFixture(harness, async ({ storage: { inventory, pendingRequests }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        await pendingRequests.learnDevices('bob', ['']);
        const [gold] = await pendingRequests.reserveRoom([bob]);
        if (gold === undefined) throw new Error('Nothing was reserved.');
        expect(await inventory.forgetContact('bob')).toBe(0);
        const { discarded } = await pendingRequests.settleTopUp(gold, [inventoryCoin(1, clock.in(DAY))]);
        expect(discarded).toMatchObject([{ reason: 'OVER_BUDGET' }]);
        expect(await inventory.listContacts()).toStrictEqual([]);
      }));

    it('forgets an unknown contact, and one that has only pending requests', () =>
      withFixture(harness, async ({ storage: { inventory, pendingRequests } }) => {
        expect(await inventory.forgetContact('unknown')).toBe(0);
        const { requestId } = await pendingRequests.openOnDemand(wish, { fresh: true });
        expect(await inventory.forgetContact('bob')).toBe(0);
        expect((await pendingRequests.openOnDemand(wish, { fresh: false })).requestId).not.toBe(requestId);
        await expect(inventory.forgetContact('')).rejects.toMatchObject({ field: 'contactId' });
      }));

    it('drops the cached coins of every contact, and never stores them again', () =>
      withFixture(harness, async ({ storage: { inventory, pendingRequests }, clock }) => {
        for (const contactId of ['bob', 'carol']) {
          await inventory.setPriority(contactId, 'BESTIE');
          await inventory.storeKey(inventoryCoin(1, clock.in(DAY), { contactId }));
        }
        await inventory.storeKey(inventoryCoin(2, clock.in(DAY), { coinCategory: 'SILVER' }));
        clock.advance(HOUR);
        expect(await inventory.dropCachedCoins()).toBe(3);
        expect(await inventory.dropCachedCoins()).toBe(0);
        expect(await inventory.getTotalStorageBytes()).toBe(0);
        expect(await inventory.listContacts()).toStrictEqual(['bob', 'carol']);
        expect(await inventory.getPriority('bob')).toBe('BESTIE');
        for (const contactId of ['bob', 'carol']) {
          expect(await inventory.storeKey(inventoryCoin(1, clock.in(DAY), { contactId }))).toBe(false);
        }
        expect(await pendingRequests.reserveRoom([bob])).toHaveLength(3);
      }));

    it('closes pending requests with the cached coins, because a repeat might bring coins that were used since', () =>
      withFixture(harness, async ({ storage: { inventory, pendingRequests } }) => {
        await inventory.setPriority('bob', 'BESTIE');
        await pendingRequests.learnDevices('bob', ['']);
        await pendingRequests.reserveRoom([bob]);
        // A contact that nothing but this request refers to.
        const { requestId } = await pendingRequests.openOnDemand({ ...wish, ...carol }, { fresh: true });
        await inventory.dropCachedCoins();
        expect(await pendingRequests.resumeTopUps([bob])).toStrictEqual([]);
        expect((await pendingRequests.openOnDemand({ ...wish, ...carol }, { fresh: false })).requestId).not.toBe(
          requestId,
        );
      }));

    it('drops more coins than one batch', () =>
      withFixture(
        harness,
        async ({ storage: { inventory, pendingRequests }, clock }) => {
          await pendingRequests.learnDevices('bob', ['']);
          const requests = await pendingRequests.reserveRoom([bob]);
          for (const [index, request] of requests.entries()) {
            const coins = Array.from({ length: request.count }, (_, n) =>
              inventoryCoin(100 * index + n, clock.in(DAY), { coinCategory: 'BRONZE' }),
            );
            await pendingRequests.settleTopUp(request, coins);
          }
          expect(await inventory.dropCachedCoins()).toBe(250);
          expect(await inventory.getTotalStorageBytes()).toBe(0);
        },
        {
          budgets: {
            BESTIE: NO_COINS,
            MATE: NO_COINS,
            STRANGER: { ...NO_COINS, BRONZE: 250 },
          },
        },
      ));
  });
}
