import type { Coin } from '../../gen/aqm/coin/v1/coin';
import { COIN_CATEGORY_NAMES, type CoinCategoryName, specOf } from '../contract/coin-category';
import type { InventoryCoin } from '../contract/inventory';
import { isKeyId } from '../contract/validate';

/**
 * Converts a fetched coin to the form of the inventory. Returns null if its category was not requested, or any field is
 * malformed.
 */
export function readFetchedCoin(
  contactId: string,
  coin: Coin,
  allowed: readonly CoinCategoryName[],
): InventoryCoin | null {
  const coinCategory = categoryOf(coin);
  if (coinCategory === undefined || !allowed.includes(coinCategory)) return null;
  const { publicKeySize, signatureSize } = specOf(coinCategory);
  if (coin.publicKey.length !== publicKeySize || coin.signature.length !== signatureSize) return null;
  if (!isKeyId(coin.keyId) || coin.expireTime === undefined || Number.isNaN(coin.expireTime.getTime())) return null;
  return {
    contactId,
    keyId: coin.keyId.toLowerCase(),
    coinCategory,
    publicKey: new Uint8Array(coin.publicKey),
    signature: new Uint8Array(coin.signature),
    expiresAt: coin.expireTime,
  };
}

/** Returns the name of the coin's category, or undefined if this release does not know it. */
export function categoryOf(coin: Coin): CoinCategoryName | undefined {
  return COIN_CATEGORY_NAMES.find((name) => specOf(name).category === coin.coinCategory);
}
