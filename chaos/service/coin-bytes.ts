import { createHash, randomUUID } from 'node:crypto';
import type { Coin, CoinCategory } from '../../gen/aqm/coin/v1/coin';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';

/** The public half of a coin whose bytes follow from its name, so that whoever fetches it can tell whether it is the one. */
export function coinOf(keyId: string, coinCategory: CoinCategory, expireTime: Date | undefined): Coin {
  const spec = COIN_CATEGORIES.find(({ category }) => category === coinCategory) ?? COIN_CATEGORIES[0];
  const seed = createHash('sha256').update(keyId).digest();
  return {
    keyId,
    coinCategory,
    publicKey: Buffer.alloc(spec.publicKeySize, seed),
    signature: Buffer.alloc(spec.signatureSize, seed.reverse()),
    expireTime,
  };
}

export function mint(coinCategory: CoinCategory, expireTime: Date | undefined): Coin {
  return coinOf(randomUUID(), coinCategory, expireTime);
}

export function isIntact(coin: Coin): boolean {
  const minted = coinOf(coin.keyId, coin.coinCategory, undefined);
  return minted.publicKey.equals(coin.publicKey) && minted.signature.equals(coin.signature);
}
