import type { ContactPriority } from './budget';
import type { CoinCategoryName } from './coin-category';

/** The days of inactivity after which garbageCollect removes the coins of a contact by default. */
export const INACTIVE_DAYS = 30;

/** The size of a key id as UUID text, which getTotalStorageBytes counts for every coin. */
export const KEY_ID_BYTES = 36;

/** A contact's coin, as fetched from the coin service. It holds public halves only. */
export interface InventoryCoin {
  /** Names the contact; 1 to 128 characters. */
  readonly contactId: string;
  /**
   * Names the contact's device whose vault holds the private half: UUID in any case, returned in lower case. Absent for
   * the contact's unnamed device.
   */
  readonly deviceId?: string;
  /** UUID in any case; stored, compared and returned in lower case. Unique per contact only, also across its devices. */
  readonly keyId: string;
  readonly coinCategory: CoinCategoryName;
  /** Exactly the category's size: 1184 bytes for GOLD and SILVER, 32 for BRONZE. */
  readonly publicKey: Uint8Array;
  /** Exactly the category's size: 2420 bytes for GOLD, 64 for SILVER and BRONZE. */
  readonly signature: Uint8Array;
  /** The coin's `expire_time`. The coin is not used at or after this moment. Must be in the future when stored. */
  readonly expiresAt: Date;
}

/** Names a coin of a known contact in reports. */
export interface CoinName {
  readonly keyId: string;
  readonly coinCategory: CoinCategoryName;
}

/** The coin that selectCoins took out for one device of a contact. */
export interface DeviceSelection {
  /** UUID in lower case. Absent for the contact's unnamed device. */
  readonly deviceId?: string;
  /** Null if the device has no usable coin of the desired category or a lower one. */
  readonly coin: InventoryCoin | null;
}

/** The usable coins of one known device of a contact. */
export interface DeviceSummary {
  /** UUID in lower case. Absent for the contact's unnamed device. */
  readonly deviceId?: string;
  /** The number of usable coins per category. Expired coins are not counted. */
  readonly counts: Record<CoinCategoryName, number>;
}

export interface ContactSummary {
  readonly contactId: string;
  readonly priority: ContactPriority;
  /** The number of usable coins per category, of all devices. Expired coins are not counted. */
  readonly counts: Record<CoinCategoryName, number>;
  /** The known devices, also those without coins, in ascending order of their ids, the unnamed one first. */
  readonly devices: readonly DeviceSummary[];
  /** The time when a coin was last stored for or selected from this contact; null if that never happened. */
  readonly lastUsedAt: Date | null;
}

/**
 * The budgeted cache of other people's coins.
 *
 * - **Used once** (promises 6 and 8): a selected coin is off the disk before it is returned, so a crash cannot use it
 *   twice. Ids that were selected or evicted are remembered until the coin's `expiresAt` and never stored again.
 * - **Budgets hold** (promise 7) under any interleaving of processes: per contact, device and category there are never
 *   more usable coins than the budget of the contact's priority allows, and nothing is stored or reserved beyond what
 *   usable coins and the reservations of pending top-ups leave of it. Expired coins use up no budget.
 * - **Devices**: a contact has the devices that a top-up learned from the coin service, and those for which a coin was
 *   stored. Each has coins, a budget and reservations of its own. A contact that uses one device per user has only the
 *   unnamed device, which no call has to mention.
 * - **Time**: a coin is usable before its `expiresAt`, never from that moment on. Expired coins are removed from the
 *   disk with the next coin stored for the contact, or by garbageCollect.
 *
 * Methods reject with the errors of SecureVault, under the same conditions. A refused argument changes nothing.
 */
export interface SmartInventory {
  /**
   * Caches one coin, and makes its device known.
   * @returns false, storing nothing, if the budget is full or this contact's coin with that id is stored or was used.
   */
  storeKey(coin: InventoryCoin): Promise<boolean>;

  /**
   * Takes a coin of one of the contact's devices out for use, in one atomic step: from the desired category, or else
   * from the next lower one that has a usable coin; within a category the earliest `expiresAt` first. Concurrent callers
   * get different coins. Without `deviceId` the coin is one of the unnamed device.
   * @returns null if none of these categories has a usable coin of that device.
   */
  selectCoin(
    contactId: string,
    desired: CoinCategoryName,
    options?: { readonly deviceId?: string },
  ): Promise<InventoryCoin | null>;

  /**
   * Takes one coin out for each known device of the contact, all in one atomic step, so that a message can be encrypted
   * for every device. Each device has the fallback of selectCoin by itself.
   * @returns one selection for each known device, in ascending order of their ids, the unnamed one first. Empty if no
   * device of the contact is known.
   */
  selectCoins(contactId: string, desired: CoinCategoryName): Promise<DeviceSelection[]>;

  /** Returns the contact's priority: STRANGER unless setPriority was called. */
  getPriority(contactId: string): Promise<ContactPriority>;

  /**
   * Changes the contact's priority and evicts, for each device by itself, the coins beyond the new budget, the most
   * recently stored first. Pending top-ups for more coins than the new budget still lacks are closed, the one attempted
   * last is kept longest.
   */
  setPriority(contactId: string, priority: ContactPriority): Promise<{ evicted: CoinName[] }>;

  /**
   * Returns a summary of every contact that listContacts names, in the same order. With an id it returns only that
   * contact's summary; an unknown contact is summarized as a STRANGER without coins.
   */
  getSummary(contactId?: string): Promise<ContactSummary[]>;

  /** Lists the contacts that have a priority, coins or known devices, or were used, in ascending order of their ids. */
  listContacts(): Promise<string[]>;

  /** Returns the bytes of all stored coins' public keys, signatures and ids (36 bytes each), expired ones included. */
  getTotalStorageBytes(): Promise<number>;

  /**
   * Removes the coins of contacts that were neither selected from nor stored for during `inactiveDays` (a whole number,
   * 0 to 3650; default 30). Their priorities stay, and with them their known devices; contacts without a priority are
   * forgotten, and so are those of which nothing but devices is known. Expired coins of all other contacts are removed
   * as well, but not counted.
   * @returns the number of coins removed from inactive contacts, including expired ones that were still on disk.
   */
  garbageCollect(inactiveDays?: number): Promise<number>;

  /**
   * Forgets a contact: its cached coins, its priority, its last use, its known devices and its pending requests. No list
   * names it any more. The ids of its used and removed coins are remembered until they expire (promise 6), under the contact's name
   * on an encrypted SQLite file, and under its HMAC with the encrypted name on a Redis with a key.
   * @returns the number of coins removed, including expired ones that were still on disk.
   */
  forgetContact(contactId: string): Promise<number>;

  /**
   * Removes the cached coins of all contacts, remembers their ids as used, and closes all pending requests. To be
   * called after an older copy of the storage was restored: its coins, and those that its pending requests would bring,
   * may have been used since. Priorities and known devices stay, so the next topUp fetches new coins. Runs in batches; if it rejects,
   * some coins may have been removed, and calling it again removes the rest.
   * @returns the number of coins removed, including expired ones that were still on disk.
   */
  dropCachedCoins(): Promise<number>;
}
