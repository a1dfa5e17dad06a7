/** Who asks, as the credential says. */
export interface Caller {
  /** UUID in lower case: the token's `sub`. */
  readonly userId: string;
  readonly isAdmin: boolean;
}

const CALLER = Symbol('caller');

/** The call's metadata object, with who sent the call. No request and no header can write a symbol. */
interface Identified {
  [CALLER]?: Caller;
}

/** Called once per call, when its credential has been verified. */
export function setCaller(metadata: object, caller: Caller): undefined {
  (metadata as Identified)[CALLER] = caller;
}

/** The authenticated caller of a call. */
export function callerOf(call: { readonly metadata: object }): Caller {
  const caller = (call.metadata as Identified)[CALLER];
  if (!caller) throw new Error('A guarded method was reached without authentication.');
  return caller;
}
