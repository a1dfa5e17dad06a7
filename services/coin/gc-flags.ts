import { setFlagsFromString } from 'node:v8';

/** The longest that V8 takes, in milliseconds: 25 days, anew after each full collection. */
const NEVER_MS = 2 ** 31 - 1;

/**
 * How V8 collects the garbage of a process that serves; before its first full collection. The same as the flags of these names on the
 * command line of node.
 *
 * - What a call allocates dies young. V8 notes where objects are made that last, and from then on makes all of that place
 *   among the old ones ("allocation site pretenuring"). Opening many connections teaches it that the streams and calls of
 *   node:http2 and grpc-js last, since they are made where sessions are; each of them then keeps all that it refers to, and a
 *   connection's next call is paid with a full collection (docs/performance.md, "Users").
 * - Compiled code outlives a pause. Some seconds after a load V8 collects with all thoroughness to give memory back ("memory reducer"),
 *   and drops the compiled code of all that works on streams and calls, of which there is none then; the next load pays for
 *   compiling it again (docs/performance.md, "Fetches").
 */
export function setGcFlags(): void {
  setFlagsFromString('--no-allocation-site-pretenuring');
  setFlagsFromString(`--gc-memory-reducer-start-delay-ms=${NEVER_MS}`);
}
