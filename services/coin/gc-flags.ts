import { setFlagsFromString } from 'node:v8';

/** The longest delay that V8 accepts, in milliseconds: 25 days. It starts again after each full collection. */
const NEVER_MS = 2 ** 31 - 1;

/**
 * Sets the flags of V8's garbage collector for a process that serves calls. Must be called before the first full
 * collection. Has the effect of these flags on the command line of node.
 *
 * - `--no-allocation-site-pretenuring`: what a call allocates dies young. V8 records where long-lived objects are
 *   allocated, and then allocates everything from that place in the old generation. Opening many connections makes it
 *   believe that the streams and calls of node:http2 and grpc-js are long-lived, because they are allocated where sessions
 *   are. Each of them would then keep everything that it refers to, and calls would cost full collections
 *   (docs/performance.md, "Users").
 * - `--gc-memory-reducer-start-delay-ms`: compiled code survives a pause. Some seconds after a load V8 collects thoroughly
 *   to return memory ("memory reducer"). It then drops the compiled code for streams and calls, none of which exist at that
 *   moment, and the next load pays for compiling it again (docs/performance.md, "Fetches").
 */
export function setGcFlags(): void {
  setFlagsFromString('--no-allocation-site-pretenuring');
  setFlagsFromString(`--gc-memory-reducer-start-delay-ms=${NEVER_MS}`);
}
