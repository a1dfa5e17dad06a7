import { credentials } from '@grpc/grpc-js';
import { mintCoin } from '../../../demo/coin-minting';
import { createIdentity, publicIdentityOf, verifyCoin } from '../../../demo/coin-signature';
import { openParcel, sealMessage } from '../../../demo/crypto-wrapper';
import { HardwareKey } from '../../../demo/hardware-key';
import { CoinServiceClient } from '../../../gen/aqm/coin/v1/coin_service';
import { startService, type TestService } from '../../../testkit/service';
import type { User } from '../../../testkit/user';
import { DAY, type Fixture, HOUR, MINUTE, passTime } from '../../conformance/harness';
import { type CoinServiceAccess, type InventoryCoin, publishCoins, topUp } from '../../index';
import { eachBackend } from '../each-backend';

const backend = eachBackend();
const identity = createIdentity();
const hardwareKey = new HardwareKey();

let service: TestService;
let client: CoinServiceClient;
beforeAll(async () => {
  service = await startService();
  client = new CoinServiceClient(service.address, credentials.createInsecure());
});
afterAll(async () => {
  client?.close();
  await service?.stop();
});

/** Bob and Alice, each with a device whose clock is off by a number of milliseconds. Both clocks stand still. */
class Pair {
  readonly #bobsDevice: Fixture;
  readonly #alicesDevice: Fixture;
  readonly #bob: User;
  readonly #alice: User;

  private constructor(devices: [Fixture, Fixture], users: [User, User]) {
    [this.#bobsDevice, this.#alicesDevice] = devices;
    [this.#bob, this.#alice] = users;
  }

  static async run(clocks: { bob: number; alice: number }, test: (pair: Pair) => Promise<void>): Promise<void> {
    const [bobsDevice, alicesDevice] = await Promise.all([backend.harness.create(), backend.harness.create()]);
    // The clock is read once, because the devices must not differ by a millisecond more.
    const now = Date.now();
    try {
      for (const [{ clock }, off] of [
        [bobsDevice, clocks.bob],
        [alicesDevice, clocks.alice],
      ] as const) {
        clock.advance(now - clock.now().getTime() + off);
      }
      const users = await Promise.all([service.user(), service.user()]);
      await test(new Pair([bobsDevice, alicesDevice], users));
    } finally {
      await bobsDevice.destroy();
      await alicesDevice.destroy();
    }
  }

  get vault() {
    return this.#bobsDevice.storage.vault;
  }

  get inventory() {
    return this.#alicesDevice.storage.inventory;
  }

  async publish(count: number): Promise<void> {
    // As long as possible: nothing of the three clocks is left to the minting side.
    const times = { now: this.#bobsDevice.clock.now(), keptDays: 30 };
    const coins = Array.from({ length: count }, () => mintCoin('GOLD', minter(this.#bob), times));
    const { results } = await publishCoins(this.#bobsDevice.storage, access(this.#bob), coins);
    expect(results.map(({ outcome }) => outcome)).toStrictEqual(Array(count).fill('INSERTED'));
  }

  /** Tops up Alice's device. @returns the number of coins that it got. */
  async fetch(): Promise<number> {
    await this.inventory.setPriority('bob', 'BESTIE');
    const bob = { contactId: 'bob', userId: this.#bob.id };
    // The expiry that Bob signed is the one that Alice gets.
    const verify = (coin: InventoryCoin) => verifyCoin(coin, publicIdentityOf(minter(this.#bob)));
    const { contacts } = await topUp(this.#alicesDevice.storage, access(this.#alice), [bob], { verify });
    expect(contacts[0]?.discarded).toStrictEqual([]);
    return contacts[0]?.stored.length ?? 0;
  }

  /** Lets time pass for both devices, but not for the service, which uses the machine's clock. */
  async passDevices(ms: number): Promise<void> {
    for (const device of [this.#bobsDevice, this.#alicesDevice]) await passTime(device, ms);
  }

  /** Moves Alice's clock to a moment, and Bob's clock by as much. */
  async passUntil(moment: number): Promise<void> {
    await this.passDevices(moment - this.#alicesDevice.clock.now().getTime());
  }

  select(): Promise<InventoryCoin | null> {
    return this.inventory.selectCoin('bob', 'GOLD');
  }

  async open(coin: InventoryCoin) {
    const parcel = sealMessage('to the last', coin, publicIdentityOf(minter(this.#bob)));
    return openParcel(parcel, { vault: this.vault, hardwareKey });
  }
}

function minter({ id }: User) {
  return { userId: id, identity, hardwareKey };
}

function access(user: User): CoinServiceAccess {
  return { client, token: () => user.token };
}

/** Lets time pass for the service's stock. The coins' own expire_time stays. */
const passService = (ms: number) => service.age('coin_stock', 'expire_time', `${ms} milliseconds`);

const CLOCK = { bob: 0, alice: 0 };

backend.describe('the three clocks of a coin', () => {
  it('the service hands it out until 24 hours before it expires, and not a moment later', () =>
    Pair.run(CLOCK, async (pair) => {
      await pair.publish(1);
      await passService(22 * DAY - MINUTE);
      expect(await pair.fetch()).toBe(1);
      await pair.publish(1);
      await passService(22 * DAY);
      expect(await pair.fetch()).toBe(0);
    }));

  it('it can be selected until it expires, and then still be opened for 7 days', () =>
    Pair.run(CLOCK, async (pair) => {
      await pair.publish(3);
      await passService(22 * DAY - MINUTE);
      await pair.passDevices(22 * DAY - MINUTE);
      expect(await pair.fetch()).toBe(3);
      const first = (await pair.select()) as InventoryCoin;
      const expiry = first.expiresAt.getTime();
      await pair.passUntil(expiry - 1);
      const last = (await pair.select()) as InventoryCoin;
      expect(last.expiresAt.getTime()).toBe(expiry);
      await pair.passUntil(expiry);
      expect(await pair.select()).toBeNull();
      await pair.passUntil(expiry + 7 * DAY - 1);
      expect(await pair.open(last)).toStrictEqual({ opened: true, text: 'to the last', coinCategory: 'GOLD' });
      await pair.passUntil(expiry + 7 * DAY);
      expect(await pair.open(first)).toStrictEqual({ opened: false, reason: 'EXPIRED' });
    }));

  it('no read moves any of them', () =>
    Pair.run(CLOCK, async (pair) => {
      await pair.publish(2);
      const [keyId = ''] = await pair.vault.listKeyIds();
      const vaultExpiry = (await pair.vault.fetchKey(keyId))?.expiresAt;
      expect(await pair.fetch()).toBe(2);
      for (let day = 0; day < 22; day += 1) {
        await pair.passDevices(DAY);
        expect((await pair.vault.fetchKey(keyId))?.expiresAt).toStrictEqual(vaultExpiry);
        expect(await pair.vault.getStatus(keyId)).toBe('ACTIVE');
        expect(await pair.vault.countActive('GOLD')).toBe(2);
        expect((await pair.inventory.getSummary('bob'))[0]?.counts.GOLD).toBe(2);
        expect(await pair.inventory.getTotalStorageBytes()).toBeGreaterThan(0);
      }
      await pair.passDevices(DAY - 1);
      const coin = await pair.select();
      expect(coin?.expiresAt.getTime()).toBe((vaultExpiry?.getTime() ?? 0) - 7 * DAY);
      await pair.passDevices(1);
      expect(await pair.select()).toBeNull();
      await pair.passDevices(7 * DAY);
      expect(await pair.vault.getStatus(keyId)).toBe('EXPIRED');
    }));

  // The service accepts 5 minutes of clock skew. The test may take a minute of it.
  const OFF = 4 * MINUTE;

  it.each([
    { bob: OFF, alice: -OFF },
    { bob: -OFF, alice: OFF },
    { bob: OFF, alice: OFF },
  ])('a parcel of the last moment has its 7 days, less the difference of the clocks: %p', (clocks) =>
    Pair.run(clocks, async (pair) => {
      await pair.publish(2);
      await passService(22 * DAY - HOUR);
      await pair.passDevices(22 * DAY - HOUR);
      expect(await pair.fetch()).toBe(2);
      const first = (await pair.select()) as InventoryCoin;
      await pair.passUntil(first.expiresAt.getTime() - 1);
      const last = (await pair.select()) as InventoryCoin;
      // Bob's clock is ahead of Alice's by this time, and reaches the vault's expiry as much earlier.
      const apart = clocks.bob - clocks.alice;
      await pair.passDevices(7 * DAY - apart);
      expect((await pair.open(last)).opened).toBe(true);
      await pair.passDevices(1);
      expect(await pair.open(first)).toStrictEqual({ opened: false, reason: 'EXPIRED' });
    }),
  );
});
