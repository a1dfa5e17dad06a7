import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { COIN_CATEGORIES, type CoinCategoryName } from '../gen/aqm/coin/v1/coin_categories';

/** A name of a key algorithm in coin.proto. */
export type PublicKeyAlgorithm = (typeof COIN_CATEGORIES)[number]['publicKeyAlgorithm'];
export type SignatureAlgorithm = (typeof COIN_CATEGORIES)[number]['signatureAlgorithm'];

export interface KeyPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

/** Returns Node's name of an algorithm: the name in the standard, in lower case. */
function nodeKeyType<Algorithm extends PublicKeyAlgorithm | SignatureAlgorithm>(algorithm: Algorithm) {
  return algorithm.toLowerCase() as Lowercase<Algorithm>;
}

const ENCAPSULATION_SIZES: Partial<Record<PublicKeyAlgorithm, number>> = { 'ML-KEM-768': 1088, X25519: 32 };

/**
 * Returns the number of bytes that the sender adds so that the recipient can derive the same secret. ML-KEM-768: the
 * ciphertext (FIPS 203, table 3). X25519: the ephemeral public key (RFC 7748, section 5).
 */
export function encapsulationSize(coinCategory: CoinCategoryName): number {
  const { publicKeyAlgorithm } = specOf(coinCategory);
  const size = ENCAPSULATION_SIZES[publicKeyAlgorithm];
  if (size === undefined) throw new Error(`the demo does not support ${publicKeyAlgorithm}`);
  return size;
}

export function generateKeyPair(algorithm: PublicKeyAlgorithm | SignatureAlgorithm): KeyPair {
  return generateKeyPairSync(nodeKeyType(algorithm) as 'ed25519');
}

/** Exports the raw public key without ASN.1: 1184 bytes (FIPS 203, section 7.1) or 32 bytes (RFC 7748, section 5). */
export function exportPublicKey(publicKey: KeyObject): Buffer {
  return publicKey.export({ format: 'raw-public' });
}

/**
 * Imports a raw public key.
 * @throws if the bytes are not a key of that algorithm, for example ML-KEM coefficients above the modulus
 */
export function importPublicKey(algorithm: PublicKeyAlgorithm, bytes: Uint8Array): KeyObject {
  return createPublicKey({
    key: Buffer.from(bytes),
    format: 'raw-public',
    asymmetricKeyType: nodeKeyType(algorithm),
  });
}

/** Exports a private key as PKCS #8 (RFC 5958), a format that names its algorithm. */
export function exportPrivateKey(privateKey: KeyObject): Buffer {
  return privateKey.export({ type: 'pkcs8', format: 'der' });
}

export function importPrivateKey(bytes: Buffer): KeyObject {
  return createPrivateKey({ key: bytes, type: 'pkcs8', format: 'der' });
}

/** Returns the specification of a category in coin.proto. */
export function specOf(coinCategory: CoinCategoryName): (typeof COIN_CATEGORIES)[number] {
  const spec = COIN_CATEGORIES.find(({ name }) => name === coinCategory);
  if (!spec) throw new Error(`coin.proto has no category ${coinCategory}`);
  return spec;
}
