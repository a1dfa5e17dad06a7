import type { Http2Session, ServerHttp2Stream } from 'node:http2';

/** Number of new streams of one connection that are passed on at once. */
const AT_ONCE = 32;
/** Number of further ones, of all connections together, that are passed on in each turn of the event loop. */
const PER_TURN = 32;

/** Passes a stream on to grpc-js. */
type Pass = () => void;

/** The new streams of one connection. */
interface Arrivals {
  /** Number of those that were passed on in this turn of the event loop. */
  passed: number;
  /** Those that wait, the oldest first. */
  readonly waiting: Pass[];
}

/**
 * Passes new streams on to grpc-js, but not hundreds of one connection in one turn of the event loop: starting a call takes
 * 0.1 ms, and a client that opens 16 connections with 256 calls each would otherwise hold up the calls of all others for
 * half a second. Connections take turns.
 */
export class PacedStreams {
  readonly #arrivals = new WeakMap<Http2Session, Arrivals>();
  /** Connections whose streams wait, in their order. */
  readonly #queue: Arrivals[] = [];

  add(stream: ServerHttp2Stream, pass: Pass): void {
    const { session } = stream;
    if (!session) return;
    let arrivals = this.#arrivals.get(session);
    if (!arrivals) {
      arrivals = { passed: 0, waiting: [] };
      this.#arrivals.set(session, arrivals);
    }
    if (arrivals.waiting.length === 0 && arrivals.passed < AT_ONCE) {
      arrivals.passed += 1;
      // A connection with single calls needs no reset in each turn.
      if (arrivals.passed === AT_ONCE / 2) setImmediate(reset, arrivals);
      pass();
      return;
    }
    holdBack(stream);
    if (arrivals.waiting.push(pass) > 1) return;
    if (this.#queue.push(arrivals) === 1) setImmediate(() => this.#turn());
  }

  #turn(): void {
    for (let passed = 0; passed < PER_TURN; passed += 1) {
      const arrivals = this.#queue.shift();
      if (!arrivals) return;
      arrivals.waiting.shift()?.();
      if (arrivals.waiting.length > 0) this.#queue.push(arrivals);
    }
    if (this.#queue.length > 0) setImmediate(() => this.#turn());
  }
}

/** Keeps a stream that grpc-js has not got yet from emitting data, and an error of its connection from being uncaught. */
export function holdBack(stream: ServerHttp2Stream): void {
  stream.pause();
  stream.on('error', ignore);
}

function ignore(): void {}

function reset(arrivals: Arrivals): void {
  arrivals.passed = 0;
}
