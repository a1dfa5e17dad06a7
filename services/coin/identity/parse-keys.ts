import { createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto';

/** The algorithms of tokens, and their keys. */
export const USABLE = 'EdDSA (Ed25519), ES256 (P-256) or RS256 (RSA of at least 2048 bits)';

/** Maximum number of keys that are tried for a token that names none. A rotation needs two. */
export const MAX_CANDIDATES = 4;

/** A PEM block of any kind. */
const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----[\s\S]*?-----END \1-----/g;

/**
 * Reads the keys of a PEM file: public keys, or certificates, of which the public key is taken, or private keys. Text
 * between the blocks is ignored.
 * @throws Error if there is none, or one cannot be used
 */
export function parsePem(text: string): KeyObject[] {
  const blocks = [...text.matchAll(BLOCK)];
  if (blocks.length === 0) throw new Error('it holds neither a PEM block ("-----BEGIN PUBLIC KEY-----") nor JSON');
  return blocks.map(([block, kind], index) => {
    const which = blocks.length === 1 ? 'its key' : `key ${index + 1} of ${blocks.length}`;
    const key = readBlock(block, `${which} (${kind})`);
    if (!fitsAlgorithm(key)) throw new Error(`${which} does not fit ${USABLE}`);
    return key;
  });
}

function readBlock(block: string, which: string): KeyObject {
  try {
    return createPublicKey(block);
  } catch (error) {
    throw new Error(`${which} cannot be read`, { cause: error });
  }
}

/** Returns the members of a JWK Set, or the one JWK that the text is. @throws SyntaxError, Error */
export function parseJwks(text: string): JsonWebKey[] {
  const json = JSON.parse(text);
  return Array.isArray(json.keys) ? json.keys : [json];
}

/** Returns true if the text is JSON: a JWK or a JWK Set. */
export function isJson(text: string): boolean {
  return text.trimStart().startsWith('{');
}

/** Returns true if tokens of an accepted algorithm can be verified with this member of a JWK Set. */
export function isUsable(jwk: JsonWebKey): boolean {
  try {
    return fitsAlgorithm(createPublicKey({ key: jwk, format: 'jwk' }));
  } catch {
    // Another kind of key: sets of identity providers hold keys for other purposes too.
    return false;
  }
}

/** Returns true if tokens of an accepted algorithm can be verified with this key. */
export function fitsAlgorithm({ asymmetricKeyType: type, asymmetricKeyDetails: details }: KeyObject): boolean {
  if (type === 'ec') return details?.namedCurve === 'prime256v1';
  return type === 'ed25519' || (type === 'rsa' && (details?.modulusLength ?? 0) >= 2048);
}
