import { COIN_CATEGORY_NAMES, type CoinCategoryName } from '../contract/coin-category';
import type { DeviceStorage } from '../contract/device-storage';
import type { CategoryRoom } from '../contract/outbox';

/** The maximum number of coins of one UploadCoins call. */
export const UPLOAD_BATCH = 100;

type Available = Readonly<Record<CoinCategoryName, number>>;

/** A category's stock that the coin service called full. */
interface FullStock {
  /** The number of its coins that were available then. As long as there are not fewer, there is no room. */
  readonly available: number;
  /** The time of the refusal by the service's clock, in milliseconds since 1970. */
  readonly sinceMs: number;
}

/**
 * A full stock is forgotten after this time. The service also counts coins that are not available, because they are
 * about to expire; when it deletes them there is room, although as many as before are available.
 */
const FULL_FOR_MS = 60 * 60_000;

/** The full stocks that this process knows of, by storage. */
const fullStocks = new WeakMap<DeviceStorage, Map<CoinCategoryName, FullStock>>();

/**
 * Decides how many coins of each category an upload contains, so that coins over the stock limit, which is not known,
 * are not sent over and over: each coin counts against the rate limits, also if it is refused.
 *
 * Once the service has refused a coin, the category's others wait until fewer coins are available than then. A process
 * that does not know if a stock is full, but finds coins that were sent before, sends one of them, and then twice as
 * many as were accepted.
 */
export class StockRoom {
  readonly #full: Map<CoinCategoryName, FullStock>;
  readonly #nowMs: number;
  readonly #room: Partial<Record<CoinCategoryName, number>> = {};

  constructor(storage: DeviceStorage, available: Available, serverTime: Date | undefined) {
    this.#full = fullStocks.get(storage) ?? new Map();
    fullStocks.set(storage, this.#full);
    this.#nowMs = serverTime?.getTime() ?? 0;
    for (const [name, full] of this.#full) {
      if (Math.abs(this.#nowMs - full.sinceMs) > FULL_FOR_MS) this.#full.delete(name);
      else this.#room[name] = Math.max(0, full.available - available[name]);
    }
  }

  /** The room for the next batch. */
  get forBatch(): CategoryRoom {
    return { ...this.#room };
  }

  /** Learns from a batch: which coins were accepted, refused, and held back, and how many are available now. */
  learn(
    batch: Readonly<Record<'accepted' | 'refused' | 'held', readonly CoinCategoryName[]>>,
    available: Available,
  ): void {
    for (const name of COIN_CATEGORY_NAMES) {
      const accepted = batch.accepted.filter((category) => category === name).length;
      if (batch.refused.includes(name)) {
        this.#full.set(name, { available: available[name], sinceMs: this.#nowMs });
        this.#room[name] = 0;
      } else if (accepted > 0) this.#room[name] = this.#roomAfter(name, accepted, batch.held.includes(name));
    }
  }

  #roomAfter(name: CoinCategoryName, accepted: number, areOthersHeld: boolean): number | undefined {
    const room = this.#room[name];
    if (room !== undefined && this.#full.has(name)) {
      if (room > accepted) return room - accepted;
      // One more than there was room for: then the limit was raised, or the next answer says that it was not.
      this.#full.delete(name);
      return 1;
    }
    return areOthersHeld ? Math.min(2 * accepted, UPLOAD_BATCH) : room;
  }
}
