import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { type Coin, CoinCategory } from '../gen/aqm/coin/v1/coin';
import { categorySpec, UNNAMED_DEVICE, type UserDevice } from '../services/coin/coin';

export const GOLD = CoinCategory.COIN_CATEGORY_GOLD;
export const SILVER = CoinCategory.COIN_CATEGORY_SILVER;
export const BRONZE = CoinCategory.COIN_CATEGORY_BRONZE;

/** Creates coins with random bytes of the right sizes, which the service accepts as real ones. */
export function mint(count: number, coinCategory: CoinCategory = BRONZE, fields: Partial<Coin> = {}): Coin[] {
  const spec = categorySpec(coinCategory);
  if (!spec) throw new Error('no such category');
  return Array.from({ length: count }, () => ({
    keyId: randomUUID(),
    coinCategory,
    publicKey: randomBytes(spec.publicKeySize),
    signature: randomBytes(spec.signatureSize),
    expireTime: undefined,
    deviceId: '',
    ...fields,
  }));
}

/** Names the unnamed device of a user to a CoinInventoryServer. */
export function unnamed(userId: string): UserDevice {
  return { userId, deviceId: UNNAMED_DEVICE };
}

export function ids(coins: readonly { keyId: string }[]): string[] {
  return coins.map((coin) => coin.keyId);
}

/** Returns all of a coin but its expiry, short enough for a readable difference. */
export function fingerprint({ keyId, coinCategory, publicKey, signature }: Coin): string {
  const digest = createHash('sha256').update(publicKey).update(signature).digest('hex');
  return `${keyId} ${coinCategory} ${digest}`;
}
