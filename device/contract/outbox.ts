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

/** A minted coin that the vault did not take as new, and the reason. */
export interface RefusedCoin extends CoinName {
  readonly reason: 'SAME_KEY_HELD' | 'OTHER_KEY_HELD' | 'BURNED' | 'EXPIRED';
}

/** A coin that was removed from the outbox without being uploaded, and the reason. */
export interface DroppedCoin extends CoinName {
  readonly reason: 'BURNED' | 'EXPIRED' | 'EPOCH_CHANGED';
}

/**
 * Holds the minted coins whose upload is not acknowledged yet, and keeps the public halves of acknowledged ones in case
 * the coin service loses them. A kept public half is deleted together with its private half, by a burn as well as by a
 * purge. Methods are atomic and durable, and fail like those of SecureVault. Only publishCoins and reconcileCoins use
 * them.
 */
export interface Outbox {
  /**
   * Puts every private half into the vault and its public half into the outbox, all in one step (promise 8). A coin
   * that the vault refuses is left out; one that already waits in the outbox is neither stored again nor refused. More
   * than 500 coins take several such steps, in order: if one fails, the coins of those before it wait in the outbox, and
   * the call can be repeated.
   */
  add(minted: readonly MintedCoin[]): Promise<RefusedCoin[]>;

  /**
   * Returns the next coins in minting order after `afterSequence`. Before it resolves, each is recorded as sent under
   * the epoch. Coins that must not be uploaded are removed from the outbox: those whose private half was burned or has
   * expired, and those sent under another epoch before (a restored server might hand them out a second time).
   */
  takeBatch(databaseEpoch: string, afterSequence: number, limit: number): Promise<OutboxBatch>;

  /** Removes coins that are in stock at the coin service. Their public halves and epochs are kept. */
  acknowledge(keyIds: readonly string[]): Promise<void>;

  /** Forgets coins that can never be fetched (again), including kept public halves. */
  remove(keyIds: readonly string[]): Promise<void>;

  /**
   * Puts the kept public halves of coins that the coin service does not know under this epoch back at the end of the
   * outbox. A coin sent under another epoch is forgotten instead; one without an active private half stays as it is.
   * @returns the ids that now wait to be sent under this epoch, including those that already waited.
   */
  publishAgain(databaseEpoch: string, keyIds: readonly string[]): Promise<string[]>;
}

export interface OutboxBatch {
  readonly coins: OutboxCoin[];
  readonly dropped: DroppedCoin[];
}
