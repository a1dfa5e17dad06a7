import type { ContactPriority } from './budget';
import type { CoinCategoryName } from './coin-category';

/** Coins of a contact who was inactive for so long are given up by garbageCollect. */
export const INACTIVE_DAYS = 30;

/** A contact's coin, as fetched from the coin service: public halves only. */
export interface InventoryCoin {
  /** Names the contact; 1 to 128 characters. */
  readonly contactId: string;
  /** UUID in any case; stored, compared and returned in lower case. Unique per contact only. */
  readonly keyId: string;
  readonly coinCategory: CoinCategoryName;
  /** Exactly the category's size: 1184 bytes for GOLD and SILVER, 32 for BRONZE. */
  readonly publicKey: Uint8Array;
  /** Exactly the category's size: 2420 bytes for GOLD, 64 for SILVER and BRONZE. */
  readonly signature: Uint8Array;
  /** The coin's `expire_time`: from this moment on it is not used any more. In the future when stored. */
  readonly expiresAt: Date;
}

/** Names a coin of a known contact in reports. */
export interface CoinName {
  readonly keyId: string;
  readonly coinCategory: CoinCategoryName;
}

export interface ContactSummary {
  readonly contactId: string;
  readonly priority: ContactPriority;
  /** Usable coins, without the expired ones. */
  readonly counts: Record<CoinCategoryName, number>;
  /** When a coin was last stored to or selected from this contact; null before the first. */
  readonly lastUsedAt: Date | null;
}

/**
 * The budgeted cache of other people's coins.
 *
 * - **Used once** (promises 6 and 8): a selected coin is off the disk before it is returned, so a crash cannot use it
 *   twice. Ids that were selected or evicted are remembered until the coin's `expiresAt` and never stored again.
 * - **Budgets hold** (promise 7) under any interleaving of processes: per contact and category there are never more
 *   usable coins than the budget of the contact's priority, and nothing is stored or reserved beyond what usable coins
 *   and the open reservations of top-ups leave of it. Expired coins fill no budget.
 * - **Time**: a coin is usable before its `expiresAt`, never from that moment on. Expired coins leave the disk with the
 *   next coin stored to the contact, or with garbageCollect.
 *
 * Errors are those of SecureVault, under the same conditions; bad input changes nothing.
 */
export interface SmartInventory {
  /**
   * Keeps one coin for later.
   * @returns false, storing nothing, when the budget is full, or this contact's coin of that id is there or was used.
   */
  storeKey(coin: InventoryCoin): Promise<boolean>;

  /**
   * Takes a coin out to use it, in one atomic step: of the desired category or else the next lower one that has any,
   * the earliest `expiresAt` first. Among several callers, each gets another coin.
   * @returns null when no usable coin of these categories is there.
   */
  selectCoin(contactId: string, desired: CoinCategoryName): Promise<InventoryCoin | null>;

  /** STRANGER until setPriority says otherwise. */
  getPriority(contactId: string): Promise<ContactPriority>;

  /** Adjusts the contact's budget and evicts what exceeds it, the coins stored last first. */
  setPriority(contactId: string, priority: ContactPriority): Promise<{ evicted: CoinName[] }>;

  /**
   * Every contact that listContacts names, in its order; with an id only that contact's summary, which for an unknown
   * one shows a STRANGER without coins.
   */
  getSummary(contactId?: string): Promise<ContactSummary[]>;

  /** The contacts that have a priority or coins, or were used, in ascending order of their ids. */
  listContacts(): Promise<string[]>;

  /** Bytes of the stored coins' public keys, signatures and ids (36 bytes each), expired coins on disk included. */
  getTotalStorageBytes(): Promise<number>;

  /**
   * Gives up the coins of contacts neither selected from nor stored to for `inactiveDays` (a whole number, 0 to
   * 3650; default 30). Their priorities stay; those without one are forgotten. Expired coins of the other contacts leave
   * the disk too, but do not count.
   * @returns the number of coins removed of inactive contacts, expired ones that were still on disk included.
   */
  garbageCollect(inactiveDays?: number): Promise<number>;
}
