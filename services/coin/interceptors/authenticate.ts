import type { Metadata } from '@grpc/grpc-js';
import { RateLimitedError, TemporaryError, TokenMissingError } from '../errors';
import { type Caller, setCaller } from '../identity/caller';
import type { VerifyToken } from '../identity/verify-token';
import type { Authenticate } from './intercept';

/**
 * Path prefix of the methods that need a token: all of the coin services. Health and reflection
 * need none.
 */
const GUARDED = '/aqm.';

/** Limits the calls of a caller, and the forged tokens of a network; see CallLimits. */
export interface AdmissionLimits {
  admit(userId: string): void;
  beginVerification(network: string): Promise<void>;
  endVerification(network: string, isInvalid: boolean): void;
  delayAnonymous(network: string): Promise<void> | undefined;
  delayRefusal(): Promise<void>;
}

/**
 * Returns the check that refuses a call without a valid bearer token, or over a limit of its caller,
 * before its message is read.
 * @param limits undefined: the calls are not limited
 * @param networkOf returns what counts as one client of a remote address
 */
export function authenticate(
  verify: VerifyToken,
  limits: AdmissionLimits | undefined,
  networkOf: (address: string) => string,
): Authenticate {
  /** Rejects with the error; after a while if a limit is exceeded, or if too many calls of the address have no valid token. */
  const refuse = async (error: unknown, network: string): Promise<never> => {
    if (error instanceof RateLimitedError) await limits?.delayRefusal();
    else if (!(error instanceof TemporaryError)) await limits?.delayAnonymous(network);
    throw error;
  };
  const admit = (metadata: Metadata, caller: Caller): undefined => {
    limits?.admit(caller.userId);
    return setCaller(metadata, caller);
  };
  return (path, metadata, call) => {
    if (!path.startsWith(GUARDED)) return undefined;
    const network = () => networkOf(call.getConnectionInfo().remoteAddress ?? '');
    const token = bearerToken(metadata);
    if (token === undefined) return refuse(new TokenMissingError(), network());
    let verifiedFor: string | undefined;
    const caller = verify(token, async () => {
      const address = network();
      await limits?.beginVerification(address);
      verifiedFor = address;
    });
    if (!(caller instanceof Promise)) {
      try {
        return admit(metadata, caller);
      } catch (error) {
        return refuse(error, network());
      }
    }
    const end = (isInvalid: boolean) => {
      if (verifiedFor !== undefined) limits?.endVerification(verifiedFor, isInvalid);
    };
    return caller
      .then(
        (found) => {
          end(false);
          admit(metadata, found);
        },
        (error: unknown) => {
          // A temporary error says nothing about the token.
          end(!(error instanceof TemporaryError));
          throw error;
        },
      )
      .catch((error: unknown) => refuse(error, network()));
  };
}

function bearerToken(metadata: Metadata): string | undefined {
  const [header] = metadata.get('authorization');
  const [, token] = /^Bearer +([^ ]+)$/i.exec(typeof header === 'string' ? header : '') ?? [];
  return token;
}
