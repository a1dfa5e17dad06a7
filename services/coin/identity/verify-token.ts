import { createPublicKey, type KeyObject } from 'node:crypto';
import { errors, jwtVerify } from 'jose';
import { isUuid } from '../coin';
import { TokenExpiredError, TokenInvalidError } from '../errors';
import type { Caller } from './caller';

/** Turns the text of a JWT (RFC 7519) into the caller it names. */
export type VerifyToken = (token: string) => Promise<Caller>;

/** Signature algorithms that are accepted, asymmetric only: the service can check tokens, not make them. */
const ALGORITHMS = ['EdDSA', 'ES256', 'RS256'];

/**
 * Accepts tokens signed with one key that hold `sub` (a UUID), `exp`, and optionally `scope` (words separated
 * by spaces, RFC 8693; "admin" is one that matters here).
 * @throws TokenExpiredError, TokenInvalidError
 */
export function verifyWith(key: KeyObject, now: () => Date): VerifyToken {
  return async (token) => {
    try {
      const { payload } = await jwtVerify(token, key, {
        algorithms: ALGORITHMS,
        requiredClaims: ['sub', 'exp'],
        currentDate: now(),
      });
      const { sub = '', scope } = payload;
      if (!isUuid(sub)) throw new TokenInvalidError('its "sub" is not a UUID');
      return { userId: sub.toLowerCase(), isAdmin: typeof scope === 'string' && scope.split(' ').includes('admin') };
    } catch (error) {
      if (error instanceof errors.JWTExpired) throw new TokenExpiredError();
      if (error instanceof TokenInvalidError) throw error;
      throw new TokenInvalidError(reasonOf(error), { cause: error });
    }
  };
}

/** Reads a public key in PEM (SPKI) or JWK form. */
export function parsePublicKey(text: string): KeyObject {
  return text.trimStart().startsWith('{')
    ? createPublicKey({ key: JSON.parse(text), format: 'jwk' })
    : createPublicKey(text);
}

/** Only what is safe to repeat to the sender: never a part of the token. */
function reasonOf(error: unknown): string {
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'its signature was made with another key';
  if (error instanceof errors.JOSEAlgNotAllowed) return `its algorithm is not one of ${ALGORITHMS.join(', ')}`;
  if (error instanceof errors.JWTClaimValidationFailed) return `its "${error.claim}" is missing or wrong`;
  return 'it is not a signed JWT';
}
