/** The authenticated user of a call, as stated by the bearer token. */
export interface Caller {
  /** The token's `sub`: a UUID in lower case. */
  readonly userId: string;
  readonly isAdmin: boolean;
  /** The token's `device_id`: a UUID in lower case. Undefined: the token names no device. */
  readonly deviceId: string | undefined;
}

const CALLER = Symbol('caller');

/**
 * The metadata object of a call, which also carries its caller. Neither a request nor a header can
 * set a symbol key.
 */
interface AuthenticatedMetadata {
  [CALLER]?: Caller;
}

/** Stores the caller of a call. Called once per call, when its token was verified. */
export function setCaller(metadata: object, caller: Caller): undefined {
  (metadata as AuthenticatedMetadata)[CALLER] = caller;
}

/**
 * Returns the authenticated caller of a call. Throws if the call was not authenticated, which is a
 * programming error.
 */
export function callerOf(call: { readonly metadata: object }): Caller {
  const caller = (call.metadata as AuthenticatedMetadata)[CALLER];
  if (!caller) throw new Error('A guarded method was reached without authentication.');
  return caller;
}
