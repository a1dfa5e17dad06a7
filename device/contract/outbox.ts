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
  /** As in NewVaultKey. */
  readonly encryptedBlob: Uint8Array;
  readonly encryptionIv: Uint8Array;
  readonly authTag: Uint8Array;
}

/** A public half on its way to the coin service. */
export interface OutboxCoin extends CoinName {
  /** The place in minting order. */
  readonly sequence: number;
  readonly publicKey: Uint8Array;
  readonly signature: Uint8Array;
  /** The vault's end of the private half minus the delivery window: the coin's `expire_time` (promise 5). */
  readonly expireTime: Date;
}

/** Why the vault did not take a minted coin as new. */
export interface RefusedCoin extends CoinName {
  readonly reason: 'SAME_KEY_HELD' | 'OTHER_KEY_HELD' | 'BURNED' | 'EXPIRED';
}

/** A coin that left the outbox without being uploaded. */
export interface DroppedCoin extends CoinName {
  readonly reason: 'BURNED' | 'EXPIRED' | 'EPOCH_CHANGED';
}

/**
 * Minted coins whose upload has not been acknowledged yet, and the public halves of acknowledged ones, should the coin
 * service lose them. A kept half goes with its private half, whoever burns or purges that. Its methods are atomic and
 * durable, and fail like those of SecureVault. Used by publishCoins and reconcileCoins only.
 */
export interface Outbox {
  /**
   * Puts every private half into the vault and its public half into the outbox, all in one step (promise 8). A coin
   * that the vault refuses is left out; one that already waits in the outbox is neither stored again nor refused.
   */
  add(minted: readonly MintedCoin[]): Promise<RefusedCoin[]>;

  /**
   * The next coins in minting order after `afterSequence`, each marked, before this resolves, as sent under the
   * epoch. Coins on the way that must not be uploaded leave the outbox: those whose private half was burned or has
   * expired, and those marked with another epoch before (a restored server might hand them out a second time).
   */
  takeBatch(databaseEpoch: string, afterSequence: number, limit: number): Promise<OutboxBatch>;

  /** Takes coins out that are in stock at the coin service. Their public halves and epochs are kept. */
  acknowledge(keyIds: readonly string[]): Promise<void>;

  /** Forgets coins that can never be fetched (again), kept public halves included. */
  remove(keyIds: readonly string[]): Promise<void>;

  /**
   * Puts kept public halves back, behind what waits, for coins that the coin service does not know under this epoch.
   * One that was sent under another epoch is forgotten instead, one whose private half is not active is left alone.
   * @returns the ids that now wait to be sent under this epoch, those included that waited before.
   */
  publishAgain(databaseEpoch: string, keyIds: readonly string[]): Promise<string[]>;
}

export interface OutboxBatch {
  readonly coins: OutboxCoin[];
  readonly dropped: DroppedCoin[];
}
