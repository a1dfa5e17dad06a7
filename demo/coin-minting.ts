// A stand-in for the Coin Minting module.
import { randomUUID } from 'node:crypto';
import { DELIVERY_WINDOW_DAYS, type MintedCoin } from '../device';
import type { CoinCategoryName } from '../gen/aqm/coin/v1/coin_categories';
import { exportPrivateKey, exportPublicKey, generateKeyPair, specOf } from './algorithms';
import { coinName, type Identity, type SignedCoin, signCoin } from './coin-signature';
import type { HardwareKey } from './hardware-key';

const DAY_MS = 86_400_000;

/** The user whose coins are minted. */
export interface Minter {
  readonly userId: string;
  readonly identity: Identity;
  readonly hardwareKey: HardwareKey;
}

/** A minted coin, and the end of its private half, which is part of what is signed. */
export type FreshCoin = MintedCoin & { readonly expiresAt: Date };

/**
 * Mints one coin: a new key pair with a signed public half and a sealed private half. Nothing is stored or sent yet. The
 * private half is kept for 29 days: one day less than possible, so that the coin service accepts the signed expiry
 * although the device's clock is ahead.
 */
export function mintCoin(
  coinCategory: CoinCategoryName,
  { userId, identity, hardwareKey }: Minter,
  { now = new Date(), keptDays = 29 } = {},
): FreshCoin {
  const keyId = randomUUID();
  const pair = generateKeyPair(specOf(coinCategory).publicKeyAlgorithm);
  const publicKey = exportPublicKey(pair.publicKey);
  const expiresAt = new Date(now.getTime() + keptDays * DAY_MS);
  const expireTime = expireTimeOf(expiresAt);
  const signature = signCoin({ userId, keyId, coinCategory, expireTime, publicKey }, identity);
  const privateKey = exportPrivateKey(pair.privateKey);
  try {
    const sealed = hardwareKey.seal(privateKey, coinName(keyId, coinCategory));
    return { keyId, coinCategory, publicKey, signature, expiresAt, ...sealed };
  } finally {
    privateKey.fill(0);
  }
}

/** Returns the public half of a coin in the form in which others fetch it. */
export function publicHalfOf({ keyId, coinCategory, publicKey, signature, expiresAt }: FreshCoin): SignedCoin {
  return { keyId, coinCategory, publicKey, signature, expiresAt: expireTimeOf(expiresAt) };
}

/** Returns the `expire_time` of a coin: the private half is kept longer, for messages that are still on their way. */
function expireTimeOf(keptUntil: Date): Date {
  return new Date(keptUntil.getTime() - DELIVERY_WINDOW_DAYS * DAY_MS);
}
