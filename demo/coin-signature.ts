import { type KeyObject, sign, verify } from 'node:crypto';
import { type CoinToSign, coinBytesToSign } from '../device';
import { COIN_CATEGORIES, type CoinCategoryName } from '../gen/aqm/coin/v1/coin_categories';
import { generateKeyPair, type KeyPair, type SignatureAlgorithm, specOf } from './algorithms';

/** A public half with its signature, which a sender must verify before using the coin. */
export interface SignedCoin {
  readonly keyId: string;
  readonly coinCategory: CoinCategoryName;
  readonly publicKey: Uint8Array;
  readonly signature: Uint8Array;
  /** The coin's `expire_time`. */
  readonly expiresAt: Date;
}

/** The long-lived signing keys of a user, one per signature algorithm. */
export type Identity = Record<SignatureAlgorithm, KeyPair>;

/**
 * The user id and the public halves of an identity. Others receive them out of band, for example by scanning a code,
 * never from the coin service.
 */
export interface PublicIdentity {
  readonly userId: string;
  readonly keys: Record<SignatureAlgorithm, KeyObject>;
}

export function createIdentity(): Identity {
  return forEachAlgorithm(generateKeyPair);
}

export function publicIdentityOf({ userId, identity }: { userId: string; identity: Identity }): PublicIdentity {
  return { userId, keys: forEachAlgorithm((algorithm) => identity[algorithm].publicKey) };
}

function forEachAlgorithm<T>(key: (algorithm: SignatureAlgorithm) => T): Record<SignatureAlgorithm, T> {
  const algorithms = new Set(COIN_CATEGORIES.map(({ signatureAlgorithm }) => signatureAlgorithm));
  return Object.fromEntries([...algorithms].map((algorithm) => [algorithm, key(algorithm)])) as Record<
    SignatureAlgorithm,
    T
  >;
}

/**
 * Signs a coin with pure ML-DSA (FIPS 204, section 5.2) or Ed25519 (RFC 8032). Both hash internally, so no digest is
 * named.
 */
export function signCoin(coin: CoinToSign, identity: Identity): Buffer {
  return sign(null, coinBytesToSign(coin), identity[specOf(coin.coinCategory).signatureAlgorithm].privateKey);
}

/** True if the coin has the sizes of its category and is signed by its owner. */
export function verifyCoin(coin: SignedCoin, { userId, keys }: PublicIdentity): boolean {
  const { keyId, coinCategory, publicKey, signature, expiresAt: expireTime } = coin;
  const { publicKeySize, signatureSize, signatureAlgorithm } = specOf(coinCategory);
  if (publicKey.length !== publicKeySize || signature.length !== signatureSize) return false;
  const signed = coinBytesToSign({ userId, keyId, coinCategory, expireTime, publicKey });
  return verify(null, signed, keys[signatureAlgorithm], signature);
}

/**
 * Returns the name of a coin, 17 bytes: the UUID (RFC 9562, section 4) and the number of the category in coin.proto.
 */
export function coinName(keyId: string, coinCategory: CoinCategoryName): Buffer {
  return Buffer.concat([uuidBytes(keyId), Buffer.of(specOf(coinCategory).category)]);
}

export function uuidBytes(uuid: string): Buffer {
  const bytes = Buffer.from(uuid.replaceAll('-', ''), 'hex');
  if (bytes.length !== 16) throw new Error('not a UUID');
  return bytes;
}
