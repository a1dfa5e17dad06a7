/** Who asks, as the credential says. */
export interface Caller {
  /** UUID in lower case: the token's `sub`. */
  readonly userId: string;
  readonly isAdmin: boolean;
}

/** Who sent a call, by the call's metadata object. No request and no header can write here. */
const callers = new WeakMap<object, Caller>();

/** Called once per call, when its credential has been verified. */
export function setCaller(metadata: object, caller: Caller): void {
  callers.set(metadata, caller);
}

/** The authenticated caller of a call. */
export function callerOf(call: { readonly metadata: object }): Caller {
  const caller = callers.get(call.metadata);
  if (!caller) throw new Error('A guarded method was reached without authentication.');
  return caller;
}
