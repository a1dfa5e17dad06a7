import type { CoinCategoryName } from './coin-category';

/** The vault's lifetime: how long it keeps a private half at most, and by default. */
export const VAULT_LIFETIME_DAYS = 30;
/** How much later than the coin's own end the vault gives up the private half, for parcels still on their way. */
export const DELIVERY_WINDOW_DAYS = 7;
/** How far beyond the lifetime an `expiresAt` may lie, for clocks that differ. */
export const CLOCK_SKEW_MS = 5 * 60_000;
/** How long the tombstone of a burned key keeps its category and times, so that a retransmission is recognised. */
export const BURN_GRACE_MS = 5_000;

/** ACTIVE: can be fetched. EXPIRED: past its end, not yet purged. BURNED: destroyed before its end. */
export type VaultKeyStatus = 'ACTIVE' | 'BURNED' | 'EXPIRED' | 'ABSENT';

/** A private half, already encrypted by the device's hardware key. The vault never looks inside. */
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
  /** The vault's own end for this key; in the future, at most 30 days and 5 minutes away. Default: now + 30 days. */
  readonly expiresAt?: Date;
}

export interface VaultEntry extends Required<NewVaultKey> {
  /** An entry can only be fetched while it is active. */
  readonly status: 'ACTIVE';
  readonly createdAt: Date;
}

/**
 * Keeps the private halves of this device's own coins until they are used once.
 *
 * - **Burn is final** (promise 6): once `burnKey` has returned, `fetchKey` answers null for ever and the blob, its IV
 *   and tag are gone from the live store. The bare id stays until the key's `expiresAt`, so that it is never stored
 *   again; its category and times stay for the burn grace (5 s) and leave with the next write or opening after it.
 * - **Durable** (promise 8): what a method reports is on disk before its promise resolves.
 * - **Time**: a key is active before its `expiresAt` and expired from that moment on; no read extends it.
 *   Times are kept to the millisecond.
 *
 * Every method rejects with InvalidArgumentError for a bad argument, having changed nothing; with ClosedError after
 * close; and with StorageFullError, StorageBusyError, StorageCorruptedError or UnreachableError when the storage
 * fails, having changed nothing either; only an UnreachableError of Redis may come after the change was made.
 */
export interface SecureVault {
  /**
   * Stores one private half.
   * @returns false, storing nothing, when the id is there, or was burned or purged and its `expiresAt` has not passed.
   */
  storeKey(key: NewVaultKey): Promise<boolean>;

  /** The entry, or null when it is absent, burned or expired. */
  fetchKey(keyId: string): Promise<VaultEntry | null>;

  /**
   * Destroys a private half. An expired key that is still there is destroyed too.
   * @returns true for exactly one caller, however many try at the same time; false when there was nothing to destroy.
   */
  burnKey(keyId: string): Promise<boolean>;

  /** BURNED is answered until the key's `expiresAt`, also for a key that was purged before it; then ABSENT. */
  getStatus(keyId: string): Promise<VaultKeyStatus>;

  /** The exact number of active keys of the category. */
  countActive(coinCategory: CoinCategoryName): Promise<number>;

  /** The ids of all active keys, or of those of one category, in ascending order. */
  listKeyIds(coinCategory?: CoinCategoryName): Promise<string[]>;

  /**
   * Destroys keys past their `expiresAt`, and keys created more than `maxAgeDays` ago (a whole number, 0 to 3650;
   * default 30). Fewer days than the vault's lifetime of 30 would destroy keys that somebody may still write to, so
   * that takes `{ evenIfOwed: true }`, else InvalidArgumentError.
   * @returns how many private halves were destroyed.
   */
  purgeExpired(maxAgeDays?: number, options?: { readonly evenIfOwed?: boolean }): Promise<number>;
}
