import type { CoinCategoryName } from './coin-category';
import type { CoinName, InventoryCoin } from './inventory';

/** A contact and the user id under which the coin service knows it. */
export interface ContactAddress {
  readonly contactId: string;
  /** UUID in any case. */
  readonly userId: string;
}

/** A fetch whose response is not on disk yet. Every attempt sends exactly the same request (promise 2). */
export interface PendingRequest extends ContactAddress {
  /** UUID. */
  readonly requestId: string;
  /** The device whose coins a top-up fetches: UUID in lower case. Absent for the contact's unnamed device. */
  readonly deviceId?: string;
  /** See OnDemandWish. Absent for a top-up. */
  readonly deviceIds?: readonly string[];
  readonly coinCategory: CoinCategoryName;
  /** 1 to 20; for each device. */
  readonly count: number;
  readonly allowLowerCategories: boolean;
  /** True if openOnDemand found the request pending, so that it may have been sent before. */
  readonly isResumed?: boolean;
}

/** The parameters of one fetch on demand. */
export interface OnDemandWish extends ContactAddress {
  /**
   * Present if the fetch is for several devices of the contact: their ids (UUIDs in any case; empty text is the unnamed
   * device), or an empty list for all of them. The request has them in lower case, sorted, each once. Absent if the
   * fetch is for the unnamed device alone.
   */
  readonly deviceIds?: readonly string[];
  readonly coinCategory: CoinCategoryName;
  readonly allowLowerCategories: boolean;
}

/** The number of coins that the budget of one known device lacks. */
export interface DeviceMissing {
  /** UUID in lower case. Absent for the contact's unnamed device. */
  readonly deviceId?: string;
  readonly missing: Record<CoinCategoryName, number>;
}

/** A fetched coin that could not be kept, and the reason. */
export interface DiscardedCoin extends CoinName {
  /**
   * - EXPIRED: its expiry has passed by the device's clock.
   * - ALREADY_USED: this device used the contact's coin with that id before.
   * - OVER_BUDGET: the budget was lowered while the request was pending. The id is remembered as used.
   * - DEVICE_REMOVED: the contact's device was found to be gone while the request was pending. The id is remembered as
   *   used.
   * - MALFORMED: it is not what was requested, has wrong sizes, or expires later than any coin may.
   * - BAD_SIGNATURE: `verify` refused it. The id is remembered as used.
   */
  readonly reason: 'EXPIRED' | 'ALREADY_USED' | 'OVER_BUDGET' | 'DEVICE_REMOVED' | 'MALFORMED' | 'BAD_SIGNATURE';
}

export interface SettledRequest {
  readonly stored: CoinName[];
  readonly discarded: DiscardedCoin[];
}

/** The maximum number of coins of one request. */
export const MAX_REQUEST_COINS = 20;

/**
 * The maximum number of known devices of a contact. It is far beyond the number that a coin service allows (50), and
 * bounds what an answer of a faulty service may store.
 */
export const MAX_CONTACT_DEVICES = 1000;

/**
 * The longest possible attempt, in milliseconds: twice the longest deadline of a call. An older attempt without a
 * response has failed, by a crash or a lost response, so a count of attempts starts again at one.
 */
export const MAX_ATTEMPT_MS = 10 * 60_000;

/**
 * The time for which a pending top-up reserves room, in milliseconds from its last attempt: the longest attempt, and
 * the hour for which the coin service remembers a request by default. An older one is still repeated, and its coins are
 * stored if the budget has room for them then, but it keeps no other coin out.
 */
export const RESERVATION_MS = MAX_ATTEMPT_MS + 60 * 60_000;

/**
 * Records the fetches whose response is not on disk yet. A pending top-up request is a reservation: its count uses up the
 * budget of one device of the contact (promise 7) for RESERVATION_MS. Methods are atomic and durable, and fail like those
 * of SmartInventory. Only topUp, fetchOnDemand and fetchForDevices use them.
 *
 * Several processes may send the same pending request at once. A response with coins closes it, since every repeat
 * would bring the same coins. An empty response closes it only if no other attempt can still be in flight: the server
 * does not remember empty responses, so another attempt may yet bring coins, and they need the reserved room.
 */
export interface PendingRequests {
  /**
   * Sets the known devices of a contact to exactly these (at most MAX_CONTACT_DEVICES; UUIDs in any case, empty text is
   * the unnamed device). In the same atomic step, removes the cached coins of every other device, remembers their ids
   * as used, and closes the pending top-ups of that device.
   * @returns the coins removed, including expired ones that were still on disk.
   */
  learnDevices(contactId: string, deviceIds: readonly string[]): Promise<{ removed: CoinName[] }>;

  /**
   * Returns the pending reservations of these contacts, each counted as attempted once more. A reservation for another
   * user id than the contact's is closed instead, and so is one older than RESERVATION_MS whose room was taken since:
   * the coin service would answer it with new coins, which would not fit.
   */
  resumeTopUps(contacts: readonly ContactAddress[]): Promise<PendingRequest[]>;

  /**
   * Reserves all room that is left in the budgets of every known device of these contacts, as new requests for at most
   * 20 coins of one device each. A contact without known devices gets none.
   */
  reserveRoom(contacts: readonly ContactAddress[]): Promise<PendingRequest[]>;

  /**
   * Returns, by contact id, how many coins the budget of each known device lacks, in ascending order of the devices' ids,
   * the unnamed one first. Reservations are not subtracted.
   */
  missingCoins(contacts: readonly ContactAddress[]): Promise<Map<string, DeviceMissing[]>>;

  /**
   * Stores a response's coins and closes its reservation in one step (promise 8). A coin that is already cached is
   * neither stored nor discarded. A coin of a device that is not known is discarded.
   */
  settleTopUp(request: PendingRequest, coins: readonly InventoryCoin[]): Promise<SettledRequest>;

  /** Remembers fetched coins of the contact as used, so that they are never stored. */
  discard(contactId: string, coins: readonly InventoryCoin[]): Promise<void>;

  /**
   * Returns a pending request with these parameters that no call of this process is using, for example one left by a
   * crash; otherwise, and always with `fresh`, a new one.
   */
  openOnDemand(wish: OnDemandWish, options: { readonly fresh: boolean }): Promise<PendingRequest>;

  /**
   * Closes the request and remembers the response's coins as used, in one step. Without coins the request is closed only
   * if no other attempt can still be in flight.
   * @returns for each coin true if it may be used; false if it has expired or any process used it before.
   */
  settleOnDemand(request: PendingRequest, coins: readonly InventoryCoin[]): Promise<boolean[]>;

  /**
   * Counts one more attempt of each request. Must be called before a call is repeated, because the failed one may still
   * be carried out. A request that was closed meanwhile stays closed; the repeat brings the coins that closed it.
   */
  recordAttempts(requests: readonly PendingRequest[]): Promise<void>;

  /** Ends this process's use of the request. Its record stays as it is, pending or closed. */
  release(request: PendingRequest): Promise<void>;

  /** Closes a request that the coin service refuses permanently. */
  abandon(request: PendingRequest): Promise<void>;
}
