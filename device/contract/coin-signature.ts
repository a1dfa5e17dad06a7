import type { CoinCategoryName } from './coin-category';
import { specOf } from './coin-category';
import { checkBytes, checkCategory, checkDate, checkObject, checkUuid } from './validate';

/** The facts about a coin that its owner signs. */
export interface CoinToSign {
  /** The owner's user id at the coin service; UUID in any case. */
  readonly userId: string;
  /** UUID in any case. */
  readonly keyId: string;
  readonly coinCategory: CoinCategoryName;
  /**
   * The coin's `expire_time`: `expiresAt` of a fetched coin, and for a coin that is minted 7 days (DELIVERY_WINDOW_DAYS)
   * before its `expiresAt` in the vault.
   */
  readonly expireTime: Date;
  /** Exactly the category's size. */
  readonly publicKey: Uint8Array;
}

/** Separates domains: the signature of a coin is not valid for anything else that the same identity key signs. */
const LABEL = Buffer.from('aqm.coin.v1 coin signature\0', 'ascii');

/**
 * Returns the bytes that the owner of a coin signs with the identity key, and that `verify` of topUp and fetchOnDemand
 * checks: 68 bytes and the public key, laid out as docs/contracts.md defines for every language. Every part but the
 * last has a fixed length, so no two coins have the same bytes. Throws InvalidArgumentError for a bad field.
 */
export function coinBytesToSign(coin: CoinToSign): Uint8Array {
  checkObject('coin', coin);
  const coinCategory = checkCategory('coinCategory', coin.coinCategory);
  const { category, publicKeySize } = specOf(coinCategory);
  const fixed = Buffer.alloc(41);
  fixed.write(checkUuid('userId', coin.userId).replaceAll('-', ''), 0, 'hex');
  fixed.write(checkUuid('keyId', coin.keyId).replaceAll('-', ''), 16, 'hex');
  fixed.writeUInt8(category, 32);
  fixed.writeBigInt64BE(BigInt(checkDate('expireTime', coin.expireTime)), 33);
  return new Uint8Array(
    Buffer.concat([LABEL, fixed, checkBytes('publicKey', coin.publicKey, publicKeySize, publicKeySize)]),
  );
}
