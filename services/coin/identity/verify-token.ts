import { hash } from 'node:crypto';
import { decodeJwt, decodeProtectedHeader, errors, type JWTPayload, jwtVerify } from 'jose';
import { LRUCache } from 'lru-cache';
import { isDeviceId } from '../coin';
import type { TokenRules } from '../config';
import { DomainError, TokenExpiredError, TokenInvalidError } from '../errors';
import { isUuid } from '../uuid';
import type { Caller } from './caller';
import type { TokenKeys } from './token-keys';

/**
 * Verifies a JWT (RFC 7519) and returns the caller it names. The result is not a promise if the
 * token is cached. Failures are always rejections, never thrown. `beforeSignature` is awaited
 * before the signature of a token that is not cached is verified, which is what costs; its rejection
 * becomes that of the call.
 */
export type VerifyToken = (token: string, beforeSignature?: () => Promise<void>) => Caller | Promise<Caller>;

/**
 * The accepted signature algorithms. All are asymmetric: the service can verify tokens but not
 * issue them.
 */
const ALGORITHMS = ['EdDSA', 'ES256', 'RS256'];

interface Verified {
  readonly caller: Caller;
  /** Time of expiry including the allowed clock skew, in milliseconds since 1970. */
  readonly expiresAtMs: number;
  /** The generation of the keys that verified the token. */
  readonly generation: number;
}

/**
 * Default of the largest number of cached tokens, which are keyed by their hash and take about 300 bytes each: twice as
 * many as there are connections by default. Verifying an Ed25519 signature takes 0.2 ms.
 */
const MAX_CACHED = 32_000;

/**
 * Returns the verification of bearer tokens. A token must be signed with one of the keys and
 * contain `sub` (a UUID), `exp` and what the rules require. It may contain `scope` (words separated
 * by spaces, RFC 8693), of which "admin" has a meaning here, and `device_id` (a UUID other than the
 * nil UUID), the device for which the caller uploads. An accepted token is cached until it
 * expires or the keys change.
 * @param maxCached the largest number of cached tokens. It must exceed the number of callers that
 *   call in turn, or none of them finds its token
 * @throws TokenExpiredError, TokenInvalidError, TokenKeysUnavailableError
 */
export function verifyWith(
  keys: TokenKeys,
  rules: TokenRules,
  now: () => Date,
  maxCached: number = MAX_CACHED,
): VerifyToken {
  const cache = new LRUCache<string, Verified>({ max: maxCached });
  return (token, beforeSignature) => {
    const digest = hash('sha256', token, 'base64');
    const generation = keys.generation();
    const cached = cache.get(digest);
    if (cached?.generation === generation) {
      return cached.expiresAtMs > now().getTime() ? cached.caller : Promise.reject(new TokenExpiredError());
    }
    return check(token, keys, rules, now(), beforeSignature).then((verified) => {
      // Uses the generation read before the verification: the keys may have changed meanwhile.
      cache.set(digest, { ...verified, generation });
      return verified.caller;
    });
  };
}

async function check(
  token: string,
  keys: TokenKeys,
  { issuer, audience, clockSkewSeconds }: TokenRules,
  currentDate: Date,
  beforeSignature?: () => Promise<void>,
): Promise<Omit<Verified, 'generation'>> {
  let isReadable = false;
  try {
    refuseByContent(token, currentDate.getTime() / 1000 - clockSkewSeconds);
    isReadable = true;
    await beforeSignature?.();
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
    const deviceId = deviceOf(payload);
    const isAdmin = typeof scope === 'string' && scope.split(' ').includes('admin');
    return { caller: { userId: sub.toLowerCase(), isAdmin, deviceId }, expiresAtMs: (exp + clockSkewSeconds) * 1000 };
  } catch (error) {
    if (error instanceof errors.JWTExpired) throw new TokenExpiredError();
    if (error instanceof DomainError) throw error;
    // The error of a key of another kind is Node's own, and so is that of text that is no token.
    const reason =
      isReadable && !(error instanceof errors.JOSEError) ? 'no key for its algorithm is known here' : reasonOf(error);
    throw new TokenInvalidError(reason, { cause: error });
  }
}

/**
 * Refuses a token that cannot be accepted whatever its signature is, at a tenth of the cost. What is accepted here is
 * checked again with the signature.
 * @param expiredBefore seconds since 1970
 */
function refuseByContent(token: string, expiredBefore: number): void {
  const { alg = '' } = decodeProtectedHeader(token);
  if (!ALGORITHMS.includes(alg)) throw new errors.JOSEAlgNotAllowed();
  const payload = decodeJwt(token);
  const { sub, exp } = payload;
  if (typeof sub === 'string' && !isUuid(sub)) throw new TokenInvalidError('its "sub" is not a UUID');
  deviceOf(payload);
  if (typeof exp === 'number' && exp <= expiredBefore) throw new TokenExpiredError();
}

/**
 * Returns the claim `device_id` in lower case; undefined where the token has none.
 * @throws TokenInvalidError if it names no device
 */
function deviceOf({ device_id: claim }: JWTPayload): string | undefined {
  if (claim === undefined) return undefined;
  if (typeof claim !== 'string' || !isDeviceId(claim)) {
    throw new TokenInvalidError('its "device_id" is not a UUID, or it is the nil UUID');
  }
  return claim.toLowerCase();
}

/**
 * Describes why a token was rejected. The text is safe to send back: it never contains a part of
 * the token.
 */
function reasonOf(error: unknown): string {
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'its signature was made with another key';
  if (error instanceof errors.JWKSNoMatchingKey) return 'it names a key that is not known here';
  if (error instanceof errors.JWKSMultipleMatchingKeys) return 'it names no key, and there are several';
  if (error instanceof errors.JOSEAlgNotAllowed) return `its algorithm is not one of ${ALGORITHMS.join(', ')}`;
  if (error instanceof errors.JWTClaimValidationFailed) return `its "${error.claim}" is missing or wrong`;
  return 'it is not a signed JWT';
}
