import type { DeviceStorage } from '../contract/device-storage';
import type { InventoryCoin } from '../contract/inventory';
import { deviceReservationCases } from './device-reservations';
import { DAY, type Harness, inventoryCoin, keyId, NO_COINS, withFixture } from './harness';

const PHONE = keyId(0xa1);
const LAPTOP = keyId(0xa2);
const TABLET = keyId(0xa3);

/** Tests that a storage keeps the devices of a contact apart, on any backend. */
export function devicesSuite(name: string, harness: Harness): void {
  describe(`devices of contacts on ${name}`, () => {
    it('selects the coin of the device that was asked for, and of the unnamed one by default', () =>
      withFixture(harness, async ({ storage: { inventory }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        const coins = ['', PHONE, LAPTOP].map((deviceId, n) => coinOf(deviceId, n, clock.in((9 - n) * DAY)));
        for (const coin of coins) expect(await inventory.storeKey(coin)).toBe(true);
        expect(await inventory.selectCoin('bob', 'GOLD', { deviceId: TABLET })).toBeNull();
        expect(await inventory.selectCoin('bob', 'GOLD', { deviceId: PHONE.toUpperCase() })).toStrictEqual(coins[1]);
        expect(await inventory.selectCoin('bob', 'GOLD', { deviceId: PHONE })).toBeNull();
        expect(await inventory.selectCoin('bob', 'GOLD')).toStrictEqual(coins[0]);
        expect(await inventory.selectCoin('bob', 'GOLD')).toBeNull();
        expect(await inventory.selectCoin('bob', 'GOLD', { deviceId: LAPTOP })).toStrictEqual(coins[2]);
      }));

    it('falls back within a device, the earliest expiry first, whatever the other devices have', () =>
      withFixture(harness, async ({ storage: { inventory }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        await inventory.storeKey(coinOf(PHONE, 1, clock.in(3 * DAY)));
        await inventory.storeKey(coinOf(LAPTOP, 2, clock.in(3 * DAY), 'SILVER'));
        await inventory.storeKey(coinOf(LAPTOP, 3, clock.in(2 * DAY), 'SILVER'));
        await inventory.storeKey(coinOf(PHONE, 4, clock.in(DAY), 'SILVER'));
        const ids = [];
        for (let n = 0; n < 3; n += 1) {
          ids.push((await inventory.selectCoin('bob', 'GOLD', { deviceId: LAPTOP }))?.keyId ?? null);
        }
        expect(ids).toStrictEqual([keyId(3), keyId(2), null]);
      }));

    it('gives one coin for each known device in the order of ids, each with its own fallback, and says which have none', () =>
      withFixture(harness, async ({ storage: { inventory, pendingRequests }, clock }) => {
        expect(await inventory.selectCoins('bob', 'GOLD')).toStrictEqual([]);
        await inventory.setPriority('bob', 'BESTIE');
        await pendingRequests.learnDevices('bob', [TABLET, LAPTOP, PHONE, '']);
        const gold = coinOf(PHONE, 1, clock.in(DAY));
        const bronze = coinOf(TABLET, 2, clock.in(DAY), 'BRONZE');
        const silver = coinOf('', 3, clock.in(DAY), 'SILVER');
        for (const coin of [gold, bronze, silver]) await inventory.storeKey(coin);
        await inventory.storeKey(coinOf(LAPTOP, 4, clock.in(DAY)));
        await inventory.selectCoin('bob', 'GOLD', { deviceId: LAPTOP });
        expect(await inventory.selectCoins('bob', 'GOLD')).toStrictEqual([
          { coin: silver },
          { deviceId: PHONE, coin: gold },
          { deviceId: LAPTOP, coin: null },
          { deviceId: TABLET, coin: bronze },
        ]);
        const none = [{ coin: null }, ...[PHONE, LAPTOP, TABLET].map((deviceId) => ({ deviceId, coin: null }))];
        expect(await inventory.selectCoins('bob', 'GOLD')).toStrictEqual(none);
        // What was selected is never stored again, for no device.
        expect(await inventory.storeKey({ ...gold, deviceId: LAPTOP })).toBe(false);
      }));

    it('never gives a coin of a higher category, or one that expired, to selectCoins', () =>
      withFixture(harness, async ({ storage: { inventory }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        await inventory.storeKey(coinOf(PHONE, 1, clock.in(9 * DAY)));
        await inventory.storeKey(coinOf(LAPTOP, 2, clock.in(DAY), 'SILVER'));
        clock.advance(DAY);
        expect((await inventory.selectCoins('bob', 'SILVER')).map(({ coin }) => coin)).toStrictEqual([null, null]);
      }));

    it('gives each device the whole budget', () =>
      withFixture(harness, async ({ storage: { inventory }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        for (const [index, deviceId] of ['', PHONE, LAPTOP].entries()) {
          for (let n = 0; n < 6; n += 1) {
            const coin = coinOf(deviceId, 10 * index + n, clock.in(DAY));
            expect([deviceId, n, await inventory.storeKey(coin)]).toStrictEqual([deviceId, n, n < 5]);
          }
        }
        await inventory.selectCoin('bob', 'GOLD', { deviceId: PHONE });
        expect(await inventory.storeKey(coinOf(LAPTOP, 90, clock.in(DAY)))).toBe(false);
        expect(await inventory.storeKey(coinOf(PHONE, 91, clock.in(DAY)))).toBe(true);
      }));

    it('keeps an id once per contact, whichever device the coin is of', () =>
      withFixture(harness, async ({ storage: { inventory }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        await inventory.storeKey(coinOf(PHONE, 1, clock.in(DAY)));
        expect(await inventory.storeKey(coinOf(LAPTOP, 1, clock.in(DAY)))).toBe(false);
        clock.advance(DAY);
        // An expired coin is replaced, also by one of another device.
        expect(await inventory.storeKey(coinOf(LAPTOP, 1, clock.in(DAY)))).toBe(true);
        expect(await inventory.getTotalStorageBytes()).toBe(1184 + 2420 + 36);
        expect((await inventory.selectCoins('bob', 'GOLD')).map(({ coin }) => coin?.deviceId)).toStrictEqual([
          undefined,
          LAPTOP,
        ]);
      }));

    it('summarizes every known device, and counts the coins of all', () =>
      withFixture(harness, async ({ storage: { inventory, pendingRequests }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        await pendingRequests.learnDevices('bob', [LAPTOP, PHONE]);
        await pendingRequests.learnDevices('carol', ['']);
        await inventory.storeKey(coinOf(PHONE, 1, clock.in(DAY)));
        await inventory.storeKey(coinOf(PHONE, 2, clock.in(DAY), 'SILVER'));
        await inventory.storeKey(coinOf(TABLET, 3, clock.in(DAY)));
        const devices = [
          { deviceId: PHONE, counts: { ...NO_COINS, GOLD: 1, SILVER: 1 } },
          { deviceId: LAPTOP, counts: NO_COINS },
          { deviceId: TABLET, counts: { ...NO_COINS, GOLD: 1 } },
        ];
        const bob = { contactId: 'bob', priority: 'BESTIE', counts: { ...NO_COINS, GOLD: 2, SILVER: 1 }, devices };
        const carol = { contactId: 'carol', priority: 'STRANGER', counts: NO_COINS, devices: [{ counts: NO_COINS }] };
        const lastUsedAt = clock.now();
        expect(await inventory.getSummary()).toStrictEqual([
          { ...bob, lastUsedAt },
          { ...carol, lastUsedAt: null },
        ]);
        expect(await inventory.getSummary('bob')).toStrictEqual([{ ...bob, lastUsedAt }]);
        expect(await inventory.listContacts()).toStrictEqual(['bob', 'carol']);
        const bytes = 2 * (1184 + 2420 + 36) + (1184 + 64 + 36);
        expect(await inventory.getTotalStorageBytes()).toBe(bytes);
      }));

    it('evicts the newest coins of each device beyond the budget', () =>
      withFixture(harness, async ({ storage: { inventory }, clock }) => {
        await inventory.setPriority('bob', 'MATE');
        for (const [index, deviceId] of [PHONE, LAPTOP].entries()) {
          for (let n = 0; n < 5 + index; n += 1) {
            await inventory.storeKey(coinOf(deviceId, 10 * index + n, clock.in(DAY), 'SILVER'));
          }
        }
        const { evicted } = await inventory.setPriority('bob', 'BESTIE');
        expect(evicted.map(({ keyId: id }) => id)).toStrictEqual([4, 15, 14].map(keyId));
        expect((await inventory.getSummary('bob'))[0]?.devices.map(({ counts }) => counts.SILVER)).toStrictEqual([
          4, 4,
        ]);
      }));

    it('forgets the coins of a device that is gone, remembers their ids, and leaves the others alone', () =>
      withFixture(harness, async ({ storage: { inventory, pendingRequests }, clock, open }) => {
        for (const contactId of ['bob', 'carol']) {
          await inventory.setPriority(contactId, 'BESTIE');
          for (const [n, deviceId] of ['', PHONE, LAPTOP].entries()) {
            await inventory.storeKey({ ...coinOf(deviceId, n, clock.in(9 * DAY)), contactId });
            await inventory.storeKey({ ...coinOf(deviceId, 10 + n, clock.in(9 * DAY), 'SILVER'), contactId });
          }
        }
        const { removed } = await pendingRequests.learnDevices('bob', [LAPTOP, TABLET, LAPTOP.toUpperCase()]);
        expect(new Set(removed)).toStrictEqual(
          new Set([
            { keyId: keyId(0), coinCategory: 'GOLD' },
            { keyId: keyId(10), coinCategory: 'SILVER' },
            { keyId: keyId(1), coinCategory: 'GOLD' },
            { keyId: keyId(11), coinCategory: 'SILVER' },
          ]),
        );
        const again = (await open()).inventory;
        const [bob, carol] = await again.getSummary();
        expect(bob?.devices.map(({ deviceId, counts }) => [deviceId, counts.GOLD, counts.SILVER])).toStrictEqual([
          [LAPTOP, 1, 1],
          [TABLET, 0, 0],
        ]);
        expect(carol?.counts).toStrictEqual({ GOLD: 3, SILVER: 3, BRONZE: 0 });
        expect(await again.storeKey(coinOf(PHONE, 1, clock.in(9 * DAY)))).toBe(false);
        expect(await again.storeKey(coinOf(LAPTOP, 0, clock.in(9 * DAY)))).toBe(false);
        expect(await again.storeKey(coinOf(TABLET, 20, clock.in(9 * DAY)))).toBe(true);
        expect(await again.selectCoin('bob', 'GOLD')).toBeNull();
        // Learning the same devices again changes nothing.
        expect(await pendingRequests.learnDevices('bob', [TABLET, LAPTOP])).toStrictEqual({ removed: [] });
      }));

    it('forgets the devices of a contact with the contact, and keeps them when its coins are dropped', () =>
      withFixture(harness, async ({ storage: { inventory, pendingRequests }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        for (const [n, deviceId] of [PHONE, LAPTOP].entries()) {
          await inventory.storeKey(coinOf(deviceId, n, clock.in(DAY)));
        }
        expect(await inventory.dropCachedCoins()).toBe(2);
        expect(await devicesOf(inventory)).toStrictEqual([PHONE, LAPTOP]);
        await inventory.storeKey(coinOf(PHONE, 5, clock.in(DAY)));
        expect(await inventory.forgetContact('bob')).toBe(1);
        expect(await devicesOf(inventory)).toStrictEqual([]);
        expect(await inventory.selectCoins('bob', 'GOLD')).toStrictEqual([]);
        await pendingRequests.learnDevices('bob', []);
        expect(await inventory.listContacts()).toStrictEqual([]);
      }));

    it('forgets a contact of which only devices were known, and now none', () =>
      withFixture(harness, async ({ storage: { inventory, pendingRequests } }) => {
        await inventory.setPriority('bob', 'BESTIE');
        for (const devices of [[PHONE], []]) {
          for (const contactId of ['bob', 'carol']) await pendingRequests.learnDevices(contactId, devices);
        }
        expect(await inventory.listContacts()).toStrictEqual(['bob']);
        expect((await inventory.getSummary()).map(({ devices }) => devices)).toStrictEqual([[]]);
      }));

    it('collects the coins of all devices of an inactive contact, and contacts of which only devices are known', () =>
      withFixture(harness, async ({ storage: { inventory, pendingRequests }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        for (const [n, deviceId] of ['', PHONE, LAPTOP].entries()) {
          await inventory.storeKey(coinOf(deviceId, n, clock.in(9 * DAY)));
        }
        await pendingRequests.learnDevices('carol', [PHONE]);
        await pendingRequests.learnDevices('dave', [PHONE]);
        await inventory.setPriority('dave', 'MATE');
        clock.advance(DAY);
        expect(await inventory.garbageCollect(2)).toBe(0);
        expect(await inventory.listContacts()).toStrictEqual(['bob', 'dave']);
        expect(await inventory.garbageCollect(1)).toBe(3);
        expect(await devicesOf(inventory)).toStrictEqual([undefined, PHONE, LAPTOP]);
        expect(await devicesOf(inventory, 'carol')).toStrictEqual([]);
        expect(await devicesOf(inventory, 'dave')).toStrictEqual([PHONE]);
      }));

    it('refuses ids that name no device, and changes nothing', () =>
      withFixture(harness, async ({ storage: { inventory, pendingRequests }, clock }) => {
        await inventory.setPriority('bob', 'BESTIE');
        await pendingRequests.learnDevices('bob', [PHONE]);
        const bad = ['no uuid', '00000000-0000-0000-0000-000000000000', null, 5] as unknown as string[];
        for (const deviceId of bad) {
          const refused = { name: 'InvalidArgumentError', field: 'deviceId' };
          await expect(inventory.storeKey({ ...coinOf('', 1, clock.in(DAY)), deviceId })).rejects.toMatchObject(
            refused,
          );
          await expect(inventory.selectCoin('bob', 'GOLD', { deviceId })).rejects.toMatchObject(refused);
          const list = { ...refused, field: 'deviceIds' };
          await expect(pendingRequests.learnDevices('bob', [LAPTOP, deviceId])).rejects.toMatchObject(list);
        }
        await expect(inventory.selectCoin('bob', 'GOLD', 5 as never)).rejects.toMatchObject({ field: 'options' });
        const tooMany = Array.from({ length: 1001 }, (_, n) => keyId(n + 1));
        await expect(pendingRequests.learnDevices('bob', tooMany)).rejects.toMatchObject({ field: 'deviceIds' });
        await expect(pendingRequests.learnDevices('bob', null as never)).rejects.toMatchObject({ field: 'deviceIds' });
        expect(await devicesOf(inventory)).toStrictEqual([PHONE]);
      }));

    deviceReservationCases(harness);
  });
}

/** Returns a coin of bob's device. An empty id is the unnamed device, which a coin does not name. */
export function coinOf(
  deviceId: string,
  number: number,
  expiresAt: Date,
  coinCategory: InventoryCoin['coinCategory'] = 'GOLD',
): InventoryCoin {
  return inventoryCoin(number, expiresAt, { coinCategory, ...(deviceId === '' ? {} : { deviceId }) });
}

async function devicesOf({ getSummary }: DeviceStorage['inventory'], contactId = 'bob') {
  const [summary] = await getSummary(contactId);
  return summary?.devices.map(({ deviceId }) => deviceId);
}
