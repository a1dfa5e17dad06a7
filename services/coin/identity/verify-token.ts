import { hash } from 'node:crypto';
import { errors, jwtVerify } from 'jose';
import { LRUCache } from 'lru-cache';
import type { TokenRules } from '../config';
import { DomainError, TokenExpiredError, TokenInvalidError } from '../errors';
import { isUuid } from '../uuid';
import type { Caller } from './caller';
import type { TokenKeys } from './token-keys';

/** Turns the text of a JWT (RFC 7519) into the caller it names: at once where it is remembered. Failures are never thrown at once. */
export type VerifyToken = (token: string) => Caller | Promise<Caller>;

/** Signature algorithms that are accepted, asymmetric only: the service can check tokens, not make them. */
const ALGORITHMS = ['EdDSA', 'ES256', 'RS256'];

interface Verified {
  readonly caller: Caller;
  /** Milliseconds since 1970. */
  readonly endsAt: number;
  readonly generation: number;
}

/** Verified tokens remembered at most, by their hash: about 3 MB. Checking an Ed25519 signature takes 0.2 ms. */
const MAX_REMEMBERED = 10_000;

/**
 * Accepts tokens signed with one of the keys that hold `sub` (a UUID), `exp`, what the rules ask for, and optionally
 * `scope` (words separated by spaces, RFC 8693; "admin" is one that matters here). A token that was accepted is
 * remembered until its end, or until the keys change.
 * @throws TokenExpiredError, TokenInvalidError, TokenKeysUnavailableError
 */
export function verifyWith(keys: TokenKeys, rules: TokenRules, now: () => Date): VerifyToken {
  const remembered = new LRUCache<string, Verified>({ max: MAX_REMEMBERED });
  return (token) => {
    const digest = hash('sha256', token, 'base64');
    const generation = keys.generation();
    const known = remembered.get(digest);
    if (known?.generation === generation) {
      return known.endsAt > now().getTime() ? known.caller : Promise.reject(new TokenExpiredError());
    }
    return check(token, keys, rules, now()).then((verified) => {
      // The generation from before: the keys may have changed since this one was found.
      remembered.set(digest, { ...verified, generation });
      return verified.caller;
    });
  };
}

async function check(
  token: string,
  keys: TokenKeys,
  { issuer, audience, clockSkewSeconds }: TokenRules,
  currentDate: Date,
): Promise<Omit<Verified, 'generation'>> {
  try {
    const { payload } = await jwtVerify(token, keys.find, {
      algorithms: ALGORITHMS,
      requiredClaims: ['sub', 'exp'],
      clockTolerance: clockSkewSeconds,
      currentDate,
      ...(issuer === undefined ? {} : { issuer }),
      ...(audience === undefined ? {} : { audience }),
    });
    const { sub = '', scope, exp = 0 } = payload;
    if (!isUuid(sub)) throw new TokenInvalidError('its "sub" is not a UUID');
    const isAdmin = typeof scope === 'string' && scope.split(' ').includes('admin');
    return { caller: { userId: sub.toLowerCase(), isAdmin }, endsAt: (exp + clockSkewSeconds) * 1000 };
  } catch (error) {
    if (error instanceof errors.JWTExpired) throw new TokenExpiredError();
    if (error instanceof DomainError) throw error;
    throw new TokenInvalidError(reasonOf(error), { cause: error });
  }
}

/** Only what is safe to repeat to the sender: never a part of the token. */
function reasonOf(error: unknown): string {
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'its signature was made with another key';
  if (error instanceof errors.JWKSNoMatchingKey) return 'it names a key that is not known here';
  if (error instanceof errors.JWKSMultipleMatchingKeys) return 'it names no key, and there are several';
  if (error instanceof errors.JOSEAlgNotAllowed) return `its algorithm is not one of ${ALGORITHMS.join(', ')}`;
  if (error instanceof errors.JWTClaimValidationFailed) return `its "${error.claim}" is missing or wrong`;
  return 'it is not a signed JWT';
}
