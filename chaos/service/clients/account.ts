import { randomUUID } from 'node:crypto';
import type { Coin, CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import { COIN_CATEGORIES } from '../../../gen/aqm/coin/v1/coin_categories';
import type { Random } from '../random';

/** The removed devices of an account that clients still name. */
const REMOVED_KEPT = 10;
const COINS_KEPT = 2000;

/** A device of a user, with what its vault holds. */
export class Device {
  /** Empty: the unnamed device. */
  readonly id: string;
  /** True from the request of its removal, and true when that was answered. */
  isBeingRemoved = false;
  isRemoved = false;
  readonly #uploaded: Coin[] = [];
  readonly #vault = new Map<CoinCategory, Set<string>>(COIN_CATEGORIES.map(({ category }) => [category, new Set()]));

  constructor(id: string) {
    this.id = id;
  }

  /** The ids of the private halves that it holds, which may be deleted from the set. */
  vault(category: CoinCategory): Set<string> {
    return this.#vault.get(category) as Set<string>;
  }

  /** Remembers uploaded coins without their bytes, which can be derived from the key id. */
  remember(coins: readonly Coin[], random: Random): void {
    for (const coin of coins) {
      const place = this.#uploaded.length < COINS_KEPT ? this.#uploaded.length : random.between(0, COINS_KEPT - 1);
      this.#uploaded[place] = { ...coin, publicKey: Buffer.alloc(0), signature: Buffer.alloc(0) };
    }
  }

  /** Returns up to `count` coins of earlier uploads, without their bytes. */
  pickUploaded(count: number, random: Random): Coin[] {
    const chosen = new Set(Array.from({ length: count }, () => random.pick(this.#uploaded)));
    return [...chosen].filter((coin) => coin !== undefined);
  }
}

/** A user with the unnamed device and named ones, some of which are removed and replaced. */
export class Account {
  readonly userId: string;
  readonly devices: Device[];
  readonly #removed: string[] = [];

  constructor(userId: string, namedDevices: number) {
    this.userId = userId;
    this.devices = ['', ...Array.from({ length: namedDevices }, () => randomUUID())].map((id) => new Device(id));
  }

  /** Puts a new device into the place of a removed one. */
  replace(device: Device): Device {
    const made = new Device(randomUUID());
    this.devices[this.devices.indexOf(device)] = made;
    this.#removed.push(device.id);
    if (this.#removed.length > REMOVED_KEPT) this.#removed.shift();
    return made;
  }

  /** Returns a named device that is in use; undefined if there is none. */
  pickNamed(random: Random): Device | undefined {
    return random.pick(this.devices.filter(({ id, isBeingRemoved }) => id !== '' && !isBeingRemoved));
  }

  pickRemoved(random: Random): string | undefined {
    return random.pick(this.#removed);
  }
}
