import type { CoinCategoryName } from './coin-category';

/** The vault's lifetime: the maximum and default time for which it keeps a private half. */
export const VAULT_LIFETIME_DAYS = 30;
/** The vault keeps a private half this much longer than its coin is valid, for messages that are still on their way. */
export const DELIVERY_WINDOW_DAYS = 7;
/** An `expiresAt` may lie this far beyond the lifetime, because clocks differ. */
export const CLOCK_SKEW_MS = 5 * 60_000;
/** The tombstone of a burned key keeps its category and times for this long, so that a retransmission is recognised. */
export const BURN_GRACE_MS = 5_000;
/** The maximum number of keys that purgeExpired destroys in one transaction, which takes about 20 ms. */
export const PURGE_BATCH = 100;

/** ACTIVE: can be fetched. EXPIRED: past `expiresAt`, not yet purged. BURNED: destroyed before `expiresAt`. */
export type VaultKeyStatus = 'ACTIVE' | 'BURNED' | 'EXPIRED' | 'ABSENT';

/** A private half, already encrypted by the device's hardware key. The vault never reads its contents. */
export interface NewVaultKey {
  /** UUID in any case; stored, compared and returned in lower case. */
  readonly keyId: string;
  readonly coinCategory: CoinCategoryName;
  /** 1 byte to 64 KiB, opaque. */
  readonly encryptedBlob: Uint8Array;
  /** 12 bytes. */
  readonly encryptionIv: Uint8Array;
  /** 16 bytes. */
  readonly authTag: Uint8Array;
  /**
   * The time at which the vault gives up this key: in the future, at most 30 days and 5 minutes away. Default: now + 30
   * days.
   */
  readonly expiresAt?: Date;
}

export interface VaultEntry extends Required<NewVaultKey> {
  /** Always ACTIVE, because only an active entry can be fetched. */
  readonly status: 'ACTIVE';
  readonly createdAt: Date;
}

/**
 * Keeps the private halves of this device's own coins until they are used once.
 *
 * - **Burn is final** (promise 6): once `burnKey` has returned, `fetchKey` always returns null, and the blob, its IV
 *   and tag are gone from the live store. The bare id stays until the key's `expiresAt`, so that it is never stored
 *   again. Its category and times stay for the burn grace (5 s) and are removed by the next write or opening after it.
 * - **Durable** (promise 8): every reported change is on disk before its promise resolves.
 * - **Time**: a key is active before its `expiresAt` and expired from that moment on; no read extends it.
 *   Times are kept to the millisecond.
 *
 * Every method rejects with InvalidArgumentError for a bad argument, with ClosedError after close, and with
 * StorageFullError, StorageBusyError, StorageCorruptedError or UnreachableError if the storage fails. Nothing has
 * changed then, with one exception: an UnreachableError of Redis may follow a change that was made.
 */
export interface SecureVault {
  /**
   * Stores one private half.
   * @returns false, storing nothing, if the id is stored, or was burned or purged and its `expiresAt` has not passed.
   */
  storeKey(key: NewVaultKey): Promise<boolean>;

  /** Returns the entry, or null if it is absent, burned or expired. */
  fetchKey(keyId: string): Promise<VaultEntry | null>;

  /**
   * Destroys a private half. An expired key that is still stored is destroyed too.
   * @returns true for exactly one caller, however many try at the same time; false if there was nothing to destroy.
   */
  burnKey(keyId: string): Promise<boolean>;

  /** Returns the key's status: BURNED until its `expiresAt`, also for a key that was purged before it; then ABSENT. */
  getStatus(keyId: string): Promise<VaultKeyStatus>;

  /** Returns the exact number of active keys of the category. */
  countActive(coinCategory: CoinCategoryName): Promise<number>;

  /** Lists the ids of all active keys, or of those of one category, in ascending order. */
  listKeyIds(coinCategory?: CoinCategoryName): Promise<string[]>;

  /**
   * Destroys keys past their `expiresAt`, and keys created more than `maxAgeDays` ago (a whole number, 0 to 3650;
   * default 30). Fewer days than the vault's lifetime of 30 would destroy keys that contacts may still write to, so
   * that rejects with InvalidArgumentError unless `{ evenIfOwed: true }` is passed. Runs in batches of 100 keys, each
   * of them atomic, so that other calls get their turn; if it rejects, earlier batches stay done, and calling it again
   * destroys the rest.
   * @returns the number of private halves destroyed.
   */
  purgeExpired(maxAgeDays?: number, options?: { readonly evenIfOwed?: boolean }): Promise<number>;
}
