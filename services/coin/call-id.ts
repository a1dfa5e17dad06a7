import { randomFillSync } from 'node:crypto';

/** The trailer of every call that carries its call id. */
export const CALL_ID_TRAILER = 'aqm-call-id';

const ID_BYTES = 8;
/** Random bytes are drawn for this many ids at once, because a draw of its own would cost a call 1 µs. */
const IDS_PER_DRAW = 1024;

const random = Buffer.alloc(ID_BYTES * IDS_PER_DRAW);
let used = random.length;

/**
 * Returns the id of a new call: 16 random hexadecimal digits. It is in the call's trailer, in the RequestInfo of its error,
 * in its log line and in its span, and says nothing about the caller.
 */
export function newCallId(): string {
  if (used === random.length) {
    randomFillSync(random);
    used = 0;
  }
  used += ID_BYTES;
  return random.toString('hex', used - ID_BYTES, used);
}

const CALL_ID = Symbol('call id');

/** The metadata object of a call, which also carries its id. Neither a request nor a header can set a symbol key. */
interface IdentifiedMetadata {
  [CALL_ID]?: string;
}

/** Stores the id of a call with its metadata. */
export function setCallId(metadata: object, id: string): void {
  (metadata as IdentifiedMetadata)[CALL_ID] = id;
}

/** Returns the id of a call; empty if it was not stored. */
export function callIdOf(call: { readonly metadata: object }): string {
  return (call.metadata as IdentifiedMetadata)[CALL_ID] ?? '';
}
