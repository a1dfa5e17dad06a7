import type { Coin } from '../../gen/aqm/coin/v1/coin';
import { COIN_CATEGORY_NAMES, type CoinCategoryName, specOf } from '../contract/coin-category';
import type { InventoryCoin } from '../contract/inventory';
import { isKeyId } from '../contract/validate';

/** The coin as the inventory keeps it, or null when it is not one that was asked for, or its sizes are wrong. */
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

export function categoryOf(coin: Coin): CoinCategoryName | undefined {
  return COIN_CATEGORY_NAMES.find((name) => specOf(name).category === coin.coinCategory);
}
