import type { Metadata } from '@grpc/grpc-js';
import { TokenMissingError } from '../errors';
import { setCaller } from '../identity/caller';
import type { VerifyToken } from '../identity/verify-token';
import type { Authenticate } from './intercept';

/**
 * Path prefix of the methods that need a token: all of the coin services. Health and reflection
 * need none.
 */
const GUARDED = '/aqm.';

/**
 * Returns the check that refuses a call without a valid bearer token before its message is read.
 */
export function authenticate(verify: VerifyToken): Authenticate {
  return (path, metadata) => {
    if (!path.startsWith(GUARDED)) return undefined;
    const token = bearerToken(metadata);
    if (token === undefined) return Promise.reject(new TokenMissingError());
    const caller = verify(token);
    return caller instanceof Promise ? caller.then((found) => setCaller(metadata, found)) : setCaller(metadata, caller);
  };
}

function bearerToken(metadata: Metadata): string | undefined {
  const [header] = metadata.get('authorization');
  const [, token] = /^Bearer +([^ ]+)$/i.exec(typeof header === 'string' ? header : '') ?? [];
  return token;
}
