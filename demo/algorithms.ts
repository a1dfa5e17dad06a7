import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { COIN_CATEGORIES, type CoinCategoryName } from '../gen/aqm/coin/v1/coin_categories';

/** The algorithm names that coin.proto uses. */
export type PublicKeyAlgorithm = (typeof COIN_CATEGORIES)[number]['publicKeyAlgorithm'];
export type SignatureAlgorithm = (typeof COIN_CATEGORIES)[number]['signatureAlgorithm'];

export interface KeyPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

const GENERATORS: Record<PublicKeyAlgorithm | SignatureAlgorithm, () => KeyPair> = {
  'ML-KEM-768': () => generateKeyPairSync('ml-kem-768'),
  X25519: () => generateKeyPairSync('x25519'),
  'ML-DSA-44': () => generateKeyPairSync('ml-dsa-44'),
  Ed25519: () => generateKeyPairSync('ed25519'),
};

const NODE_KEY_TYPES = { 'ML-KEM-768': 'ml-kem-768', X25519: 'x25519' } as const satisfies Record<
  PublicKeyAlgorithm,
  string
>;

/**
 * How many bytes the sender adds so that the recipient can derive the same secret. ML-KEM-768: the ciphertext,
 * FIPS 203 table 3. X25519: the ephemeral public key, RFC 7748 section 5.
 */
export const ENCAPSULATION_SIZES: Record<PublicKeyAlgorithm, number> = { 'ML-KEM-768': 1088, X25519: 32 };

export function generateKeyPair(algorithm: PublicKeyAlgorithm | SignatureAlgorithm): KeyPair {
  return GENERATORS[algorithm]();
}

/** The bytes that travel: FIPS 203 section 7.1 (1184 bytes) or RFC 7748 section 5 (32 bytes), no ASN.1 around them. */
export function exportPublicKey(publicKey: KeyObject): Buffer {
  return publicKey.export({ format: 'raw-public' });
}

/** Throws when the bytes are no key of that algorithm, for example ML-KEM coefficients above the modulus. */
export function importPublicKey(algorithm: PublicKeyAlgorithm, bytes: Uint8Array): KeyObject {
  return createPublicKey({
    key: Buffer.from(bytes),
    format: 'raw-public',
    asymmetricKeyType: NODE_KEY_TYPES[algorithm],
  });
}

/** PKCS #8 (RFC 5958), because it names its algorithm itself. */
export function exportPrivateKey(privateKey: KeyObject): Buffer {
  return privateKey.export({ type: 'pkcs8', format: 'der' });
}

export function importPrivateKey(bytes: Buffer): KeyObject {
  return createPrivateKey({ key: bytes, type: 'pkcs8', format: 'der' });
}

/** What coin.proto says about a category. */
export function specOf(coinCategory: CoinCategoryName): (typeof COIN_CATEGORIES)[number] {
  const spec = COIN_CATEGORIES.find(({ name }) => name === coinCategory);
  if (!spec) throw new Error(`coin.proto knows no category ${coinCategory}`);
  return spec;
}
