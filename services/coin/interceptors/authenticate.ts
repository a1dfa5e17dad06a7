import { setTimeout } from 'node:timers/promises';
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

/** The other methods that exist: health and reflection. */
const OPEN = new Set([
  ...['Check', 'Watch', 'List'].map((method) => `/grpc.health.v1.Health/${method}`),
  ...['v1', 'v1alpha'].map((version) => `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`),
]);

/** Limits the calls of a caller, and the forged tokens of a network; see CallLimits. */
export interface AdmissionLimits {
  admit(userId: string): void;
  beginVerification(network: string): Promise<void>;
  endVerification(network: string, isInvalid: boolean): void;
  admitAnonymous(network: string): boolean;
}

/**
 * Mean time after which a call over a limit is answered, in milliseconds, while few others wait; also one of too many that
 * have no valid token. A client that answers each refusal with the next call is slowed down to as many calls a second as it
 * has streams; refused at once, they would keep the event loop busy. The times differ by half of it either way: the calls of
 * one moment must not all come back in one moment.
 */
const REFUSAL_DELAY_MS = 1000;
/** For so many calls that wait for their refusal, the time grows by REFUSAL_DELAY_MS, up to MAX_DELAY_FACTOR times as much. */
const REFUSALS_PER_DELAY = 64;
const MAX_DELAY_FACTOR = 5;

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
  let waiting = 0;
  const wait = async (): Promise<void> => {
    const factor = Math.min(MAX_DELAY_FACTOR, 1 + waiting / REFUSALS_PER_DELAY);
    waiting += 1;
    await setTimeout(REFUSAL_DELAY_MS * factor * (0.5 + Math.random()), undefined, { ref: false });
    waiting -= 1;
  };
  const isAdmitted = (network: string): boolean => limits?.admitAnonymous(network) ?? true;
  /** Rejects with the error; after a while if a limit is exceeded, or if too many calls of the address have no valid token. */
  const refuse = async (error: unknown, network: string): Promise<never> => {
    if (error instanceof RateLimitedError || !(error instanceof TemporaryError || isAdmitted(network))) await wait();
    throw error;
  };
  const admit = (metadata: Metadata, caller: Caller): undefined => {
    limits?.admit(caller.userId);
    return setCaller(metadata, caller);
  };
  return (path, metadata, call) => {
    if (OPEN.has(path)) return undefined;
    const network = () => networkOf(call.getConnectionInfo().remoteAddress ?? '');
    if (!path.startsWith(GUARDED)) return isAdmitted(network()) ? undefined : wait();
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
