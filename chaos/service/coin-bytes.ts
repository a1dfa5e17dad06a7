import { createHash, randomUUID } from 'node:crypto';
import type { Coin, CoinCategory } from '../../gen/aqm/coin/v1/coin';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';

/** Derives the bytes of a coin from its key id, so that a requester can verify that it received the right ones. */
export function coinOf(keyId: string, coinCategory: CoinCategory, expireTime: Date | undefined): Coin {
  const spec = COIN_CATEGORIES.find(({ category }) => category === coinCategory) ?? COIN_CATEGORIES[0];
  const seed = createHash('sha256').update(keyId).digest();
  return {
    keyId,
    coinCategory,
    publicKey: Buffer.alloc(spec.publicKeySize, seed),
    signature: Buffer.alloc(spec.signatureSize, seed.reverse()),
    expireTime,
    deviceId: '',
  };
}

/** Creates a coin with a new key id. */
export function mint(coinCategory: CoinCategory, expireTime: Date | undefined): Coin {
  return coinOf(randomUUID(), coinCategory, expireTime);
}

/** True if the bytes of a coin are those that its key id determines. */
export function isIntact(coin: Coin): boolean {
  const minted = coinOf(coin.keyId, coin.coinCategory, undefined);
  return minted.publicKey.equals(coin.publicKey) && minted.signature.equals(coin.signature);
}
