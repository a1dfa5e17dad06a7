import type { CoinCategoryName } from './coin-category';
import type { CoinName } from './inventory';

/** A freshly minted key pair: the encrypted private half for the vault, the public half for the coin service. */
export interface MintedCoin {
  /** UUID in any case. */
  readonly keyId: string;
  readonly coinCategory: CoinCategoryName;
  /** Exactly the category's size. */
  readonly publicKey: Uint8Array;
  /** Exactly the category's size. */
  readonly signature: Uint8Array;
  /** 1 byte to 64 KiB, see NewVaultKey. */
  readonly encryptedBlob: Uint8Array;
  /** 12 bytes. */
  readonly encryptionIv: Uint8Array;
  /** 16 bytes. */
  readonly authTag: Uint8Array;
  /**
   * The time at which the vault gives up the private half, as in NewVaultKey; the coin's `expire_time` is 7 days
   * earlier. Default: now + 30 days, or the time with which the private half was stored before.
   */
  readonly expiresAt?: Date;
}

/** A public half that waits for its upload to the coin service. */
export interface OutboxCoin extends CoinName {
  /** The position in minting order. */
  readonly sequence: number;
  readonly publicKey: Uint8Array;
  readonly signature: Uint8Array;
  /** The coin's `expire_time`: the vault's `expiresAt` of the private half minus the delivery window (promise 5). */
  readonly expireTime: Date;
}

/**
 * The reason why a coin is never sent (again) although its private half is in the vault.
 *
 * - CONFLICT, SPENT, EXPIRED: the answer of the coin service.
 * - EPOCH_CHANGED: it was sent under another database epoch.
 */
export type FinalOutcome = (typeof FINAL_OUTCOMES)[number];

export const FINAL_OUTCOMES = ['CONFLICT', 'SPENT', 'EXPIRED', 'EPOCH_CHANGED'] as const;

/**
 * A minted coin that was not put into the outbox, and the reason.
 *
 * - SENT_BEFORE: the coin service acknowledged this coin before.
 * - OTHER_KEY_HELD: the id belongs to another private or public half, or the vault holds the private half with another
 *   category, or until another time than the given `expiresAt`.
 * - BURNED: the private half was burned.
 * - EXPIRED: the private half has expired.
 * - FinalOutcome: what became of the coin when it was sent before.
 */
export interface RefusedCoin extends CoinName {
  readonly reason: 'SENT_BEFORE' | 'OTHER_KEY_HELD' | 'BURNED' | FinalOutcome;
}

/** A coin that was removed from the outbox without being uploaded, and the reason. */
export interface DroppedCoin extends CoinName {
  readonly reason: 'BURNED' | 'EXPIRED' | 'EPOCH_CHANGED';
}

/**
 * The number of coins of each category that a batch may contain. Of a category that is absent it may contain any
 * number, but only one if its first coin was sent under the same epoch before: the coin service may have refused it
 * because the stock is full, and would refuse the others too.
 */
export type CategoryRoom = Readonly<Partial<Record<CoinCategoryName, number>>>;

/** The maximum number of coins that takeBatch examines, so that its duration does not grow with the outbox. */
export const MAX_EXAMINED = 1000;

/**
 * Holds the minted coins whose upload is not acknowledged yet, and keeps the public halves of acknowledged ones in case
 * the coin service loses them. For a coin that must not be sent again, it remembers the outcome. Both are deleted
 * together with the private half, by a burn as well as by a purge. Methods are atomic and durable, and fail like those
 * of SecureVault. Only publishCoins and reconcileCoins use them.
 */
export interface Outbox {
  /**
   * Puts every private half into the vault and its public half into the outbox, all in one step (promise 8). A private
   * half that the vault holds already (SecureVault.storeKey) stays as it is; its public half is put into the outbox if
   * it never was there. Coins that were refused are left out; one that already waits in the outbox is neither stored
   * again nor refused. More than 500 coins take several such steps, in order: if one fails, the coins of those before it
   * wait in the outbox, and the call can be repeated.
   */
  add(minted: readonly MintedCoin[]): Promise<RefusedCoin[]>;

  /**
   * Examines the coins in minting order after `afterSequence`, and returns at most `limit` of them. Before it resolves,
   * each returned coin is recorded as sent under the epoch. Coins for which there is no `room` are passed over; without
   * `room` there are none. Coins that must not be uploaded are removed from the outbox when they are met: those whose
   * private half was burned or has expired, and those sent under another epoch before (a restored server might hand
   * them out a second time).
   */
  takeBatch(databaseEpoch: string, afterSequence: number, limit: number, room?: CategoryRoom): Promise<OutboxBatch>;

  /** Removes coins that are in stock at the coin service. Their public halves and epochs are kept. */
  acknowledge(keyIds: readonly string[]): Promise<void>;

  /**
   * Deletes the public halves of coins that are never sent (again), waiting ones as well as kept ones, and remembers
   * the outcome. The first outcome of a coin stays.
   */
  remove(keyIds: readonly string[], outcome: FinalOutcome): Promise<void>;

  /** Returns those of the ids whose coin was answered CONFLICT: the coin service has another coin with this id. */
  conflictsAmong(keyIds: readonly string[]): Promise<string[]>;

  /**
   * Puts the kept public halves of coins that the coin service does not know under this epoch back at the end of the
   * outbox. For a coin sent under another epoch, EPOCH_CHANGED is remembered instead; one without an active private half
   * stays as it is.
   * @returns the ids that now wait to be sent under this epoch, including those that already waited.
   */
  publishAgain(databaseEpoch: string, keyIds: readonly string[]): Promise<string[]>;
}

export interface OutboxBatch {
  readonly coins: OutboxCoin[];
  readonly dropped: DroppedCoin[];
  /** The coins that were passed over because there is no room for them. */
  readonly held: CoinName[];
  /** The sequence of the last coin that was examined; null if it was the last one of the outbox. */
  readonly lastSequence: number | null;
}
