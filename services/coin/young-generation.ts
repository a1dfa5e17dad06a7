import { setFlagsFromString } from 'node:v8';

/**
 * Lets what a call allocates die young. V8 notes where objects are made that last, and from then on makes all of that place
 * among the old ones ("allocation site pretenuring"). Opening many connections teaches it that the streams and calls of
 * node:http2 and grpc-js last, since they are made where sessions are; each of them then keeps all that it refers to, and a
 * connection's next call is paid with a full collection (docs/performance.md, "Users").
 *
 * For a process that serves; before its first connection. The same as the flag of this name on the command line of node.
 */
export function letCallsDieYoung(): void {
  setFlagsFromString('--no-allocation-site-pretenuring');
}
