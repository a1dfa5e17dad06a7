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
  readonly coinCategory: CoinCategoryName;
  /** 1 to 20. */
  readonly count: number;
  readonly allowLowerCategories: boolean;
}

/** The parameters of one fetch on demand. */
export interface OnDemandWish extends ContactAddress {
  readonly coinCategory: CoinCategoryName;
  readonly allowLowerCategories: boolean;
}

/** A fetched coin that could not be kept, and the reason. */
export interface DiscardedCoin extends CoinName {
  /**
   * - EXPIRED: its expiry has passed by the device's clock.
   * - ALREADY_USED: this device used the contact's coin with that id before.
   * - OVER_BUDGET: the budget was lowered while the request was pending. The id is remembered as used.
   * - MALFORMED: it is not what was requested, has wrong sizes, or expires later than any coin may.
   * - BAD_SIGNATURE: `verify` refused it. The id is remembered as used.
   */
  readonly reason: 'EXPIRED' | 'ALREADY_USED' | 'OVER_BUDGET' | 'MALFORMED' | 'BAD_SIGNATURE';
}

export interface SettledRequest {
  readonly stored: CoinName[];
  readonly discarded: DiscardedCoin[];
}

/** The maximum number of coins of one request. */
export const MAX_REQUEST_COINS = 20;

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
 * Records the fetches whose response is not on disk yet. A pending top-up request is a reservation: its count uses up
 * budget (promise 7) for RESERVATION_MS. Methods are atomic and durable, and fail like those of SmartInventory. Only topUp and
 * fetchOnDemand use them.
 *
 * Several processes may send the same pending request at once. A response with coins closes it, since every repeat
 * would bring the same coins. An empty response closes it only if no other attempt can still be in flight: the server
 * does not remember empty responses, so another attempt may yet bring coins, and they need the reserved room.
 */
export interface PendingRequests {
  /**
   * Returns the pending reservations of these contacts, each counted as attempted once more. A reservation for another
   * user id than the contact's is closed instead, and so is one older than RESERVATION_MS whose room was taken since:
   * the coin service would answer it with new coins, which would not fit.
   */
  resumeTopUps(contacts: readonly ContactAddress[]): Promise<PendingRequest[]>;

  /** Reserves all room that is left in these contacts' budgets, as new requests for at most 20 coins each. */
  reserveRoom(contacts: readonly ContactAddress[]): Promise<PendingRequest[]>;

  /** Returns, by contact id, how many coins each budget lacks. Reservations are not subtracted. */
  missingCoins(contacts: readonly ContactAddress[]): Promise<Map<string, Record<CoinCategoryName, number>>>;

  /**
   * Stores a response's coins and closes its reservation in one step (promise 8). A coin that is already cached is
   * neither stored nor discarded.
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
   * Closes the request and remembers the coin as used.
   * @returns true if the coin may be used; false if it has expired or any process used it before.
   */
  settleOnDemand(request: PendingRequest, coin: InventoryCoin | null): Promise<boolean>;

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
