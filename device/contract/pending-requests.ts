import type { CoinCategoryName } from './coin-category';
import type { CoinName, InventoryCoin } from './inventory';

/** A contact and the user id under which the coin service knows it. */
export interface ContactAddress {
  readonly contactId: string;
  /** UUID in any case. */
  readonly userId: string;
}

/** A fetch that was or will be sent; a repeat sends exactly the same (promise 2). */
export interface PendingRequest extends ContactAddress {
  /** UUID. */
  readonly requestId: string;
  readonly coinCategory: CoinCategoryName;
  /** 1 to 20. */
  readonly count: number;
  readonly allowLowerCategories: boolean;
}

export interface OnDemandWish extends ContactAddress {
  readonly coinCategory: CoinCategoryName;
  readonly allowLowerCategories: boolean;
}

/** A fetched coin that could not be kept, and why. It is remembered as used. */
export interface DiscardedCoin extends CoinName {
  /** OVER_BUDGET: the budget was lowered while the request was open. MALFORMED: not what was asked for. */
  readonly reason: 'EXPIRED' | 'ALREADY_USED' | 'OVER_BUDGET' | 'MALFORMED';
}

export interface SettledRequest {
  readonly stored: CoinName[];
  readonly discarded: DiscardedCoin[];
}

/**
 * The record of fetches whose answer is not on disk yet. An open top-up request is a reservation: its count fills the
 * budget (promise 7). Methods are atomic and durable, and fail like those of SmartInventory. Used by topUp and
 * fetchOnDemand only.
 *
 * Several processes may ask with the same open request at once. An answer with coins closes it, since every repeat
 * would bring the same coins. An empty answer closes it only when no other asker may still be on the way: the server
 * does not remember empty answers, so that one might yet bring coins, and they need the room.
 */
export interface PendingRequests {
  /** The open reservations of these contacts, to be asked again. One for another user id than the contact's is closed. */
  resumeTopUps(contacts: readonly ContactAddress[]): Promise<PendingRequest[]>;

  /** Reserves all room that is left in these contacts' budgets: new requests of at most 20 coins each. */
  reserveRoom(contacts: readonly ContactAddress[]): Promise<PendingRequest[]>;

  /** By contact id: how many coins each budget lacks, reserved or not. */
  missingCoins(contacts: readonly ContactAddress[]): Promise<Map<string, Record<CoinCategoryName, number>>>;

  /** Stores an answer's coins and closes its reservation in one step (promise 8). A coin already there is neither stored nor discarded. */
  settleTopUp(request: PendingRequest, coins: readonly InventoryCoin[]): Promise<SettledRequest>;

  /**
   * An open request of this wish that no call of this process is asking with, such as one that a crash left behind;
   * or a new one, always with `fresh`.
   */
  openOnDemand(wish: OnDemandWish, options: { readonly fresh: boolean }): Promise<PendingRequest>;

  /**
   * Closes the request, and remembers the coin as used.
   * @returns whether the coin may be used: false when it has expired, or was used before by whichever process.
   */
  settleOnDemand(request: PendingRequest, coin: InventoryCoin | null): Promise<boolean>;

  /**
   * Counts one more asker of each request, before its call is repeated: the call that failed may still be carried out.
   * A request that was closed meanwhile stays closed; the repeat brings the coins that closed it.
   */
  askAgain(requests: readonly PendingRequest[]): Promise<void>;

  /** Says that this process no longer asks with the request. Open or closed, its record stays as it is. */
  release(request: PendingRequest): Promise<void>;

  /** Closes a request that the coin service refuses for good. */
  abandon(request: PendingRequest): Promise<void>;
}
