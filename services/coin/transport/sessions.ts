import {
  constants,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Server } from '@grpc/grpc-js';
import { DeadlineExceededError, type DomainError, OverloadedError } from '../errors';
import { LinkedList, type ListNode } from '../linked-list';
import { toStatus } from '../rpc/status';
import { replaceStreamMap } from './open-streams';

export interface SessionLimits {
  /** Maximum number of concurrent calls per connection. */
  readonly maxStreams: number;
  /** Maximum size of a call's headers, in bytes as HTTP/2 counts them. */
  readonly maxHeaderBytes: number;
  /**
   * Maximum time from the first byte of a call to the last byte of its response, in milliseconds.
   */
  readonly callTimeoutMs: number;
}

export interface SessionsOptions extends SessionLimits {
  /**
   * Maximum number of open calls of all connections, including those that are not being processed.
   */
  readonly maxOpen: number;
}

/** Path of the health watch, a stream that lasts as long as its caller wants and has no timeout. */
const WATCH = '/grpc.health.v1.Health/Watch';

/**
 * Maximum number of PING and SETTINGS frames without a new call in CONTROL_WINDOW_MS. gRPC clients
 * send a few.
 */
const MAX_CONTROL_FRAMES = 200;
const CONTROL_WINDOW_MS = 60_000;

/**
 * Maximum size of all incomplete requests together, in bytes. A single request has at most 1 MiB.
 * Beyond this, the largest request of the connection that holds the most is refused, so that one
 * peer cannot get the requests of others refused.
 */
const MAX_INCOMPLETE_BYTES = 64 * 1024 * 1024;
/**
 * Assumed size of a compressed request until its call ends. grpc-js inflates it internally, to at
 * most four times as much.
 */
const COMPRESSED_BYTES = 2 * 1024 * 1024;

/** Longest time that a timer holds, in milliseconds: 24.8 days. */
const MAX_TIMER_MS = 2 ** 31 - 1;
/** The units of `grpc-timeout` from a second on, in milliseconds. */
const UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000 };

/** Size of the prefix of a gRPC message: compression flag (1 byte) and message length (4 bytes). */
const MESSAGE_PREFIX_BYTES = 5;

const { NGHTTP2_CANCEL, NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_NO_ERROR, NGHTTP2_REFUSED_STREAM } = constants;

/** The incomplete requests of one connection. */
interface Receiving {
  /** Their total size. */
  bytes: number;
  readonly calls: LinkedList<OpenCall>;
  /** Position in the list of connections with incomplete requests; undefined if it has none. */
  node: ListNode<Receiving> | undefined;
}

/** A call, from its first byte until its stream is closed. */
interface OpenCall {
  readonly stream: ServerHttp2Stream;
  readonly receiving: Receiving;
  /** Number of request bytes received; 0 once the request is complete. */
  bytes: number;
  /** Position in the list of its connection's incomplete requests. */
  node: ListNode<OpenCall> | undefined;
  /** Position in the list of calls that can time out. */
  timeoutNode: ListNode<Timed<OpenCall>> | undefined;
}

/**
 * Enforces limits that grpc-js does not have: the total time of a call, control frames without
 * calls, open calls, and the size of incomplete requests.
 */
export class Sessions {
  readonly #options: SessionsOptions;
  readonly #timeouts: SharedTimeout<OpenCall>;
  /** Connections with incomplete requests. */
  readonly #receiving = new LinkedList<Receiving>();
  /** Total size of all incomplete requests. */
  #bytes = 0;
  #open = 0;

  /** Applies the limits to all future connections of a server. */
  constructor(server: Server, options: SessionsOptions) {
    this.#options = options;
    this.#timeouts = new SharedTimeout(options.callTimeoutMs, ({ stream }) =>
      endCall(stream, new DeadlineExceededError()),
    );
    const { maxStreams: maxConcurrentStreams, maxHeaderBytes: maxHeaderListSize } = options;
    for (const http2Server of http2ServersOf(server)) {
      http2Server.updateSettings({ maxConcurrentStreams, maxHeaderListSize });
      http2Server.on('session', (session) => this.#watch(session));
    }
  }

  #watch(session: ServerHttp2Session): void {
    replaceStreamMap(session);
    let frames = 0;
    let windowStart = Date.now();
    const onControlFrame = () => {
      frames += 1;
      if (frames < MAX_CONTROL_FRAMES) return;
      const now = Date.now();
      if (now - windowStart < CONTROL_WINDOW_MS) {
        session.destroy(new Error('too many PING and SETTINGS frames'), NGHTTP2_ENHANCE_YOUR_CALM);
      }
      frames = 0;
      windowStart = now;
    };
    session.on('ping', onControlFrame);
    session.on('remoteSettings', onControlFrame);
    const receiving: Receiving = { bytes: 0, calls: new LinkedList(), node: undefined };
    // Before grpc-js, which has its own listener already.
    session.prependListener('stream', (_, headers) => limitTimeout(headers));
    session.on('stream', (stream, headers) => {
      // Some clients send a PING with each call to measure the round-trip time.
      frames = 0;
      this.#limit(stream, headers, receiving);
    });
  }

  #limit(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, receiving: Receiving): void {
    if (this.#open >= this.#options.maxOpen) {
      stream.close(NGHTTP2_REFUSED_STREAM);
      return;
    }
    this.#open += 1;
    const call: OpenCall = { stream, receiving, bytes: 0, node: undefined, timeoutNode: undefined };
    if (headers[constants.HTTP2_HEADER_PATH] !== WATCH) call.timeoutNode = this.#timeouts.add(call);
    if ((headers['grpc-encoding'] ?? 'identity') === 'identity') {
      // grpc-js has paused the stream, so this listener does not start the flow. Most requests
      // arrive complete in one chunk.
      stream.on('data', (chunk: Buffer) => {
        if (call.bytes > 0 || !isComplete(chunk)) this.#hold(call, chunk.length);
      });
      stream.on('end', () => this.#release(call));
    } else this.#hold(call, COMPRESSED_BYTES);
    // Emitted once per stream; `once` would allocate one more function.
    stream.on('close', () => {
      if (call.timeoutNode) this.#timeouts.remove(call.timeoutNode);
      this.#release(call);
      this.#open -= 1;
    });
  }

  /**
   * Counts received bytes of an incomplete request, and refuses requests while all together are too
   * large.
   */
  #hold(call: OpenCall, bytes: number): void {
    if (call.stream.closed) return;
    const { receiving } = call;
    call.bytes += bytes;
    call.node ??= receiving.calls.add(call);
    receiving.bytes += bytes;
    receiving.node ??= this.#receiving.add(receiving);
    this.#bytes += bytes;
    while (this.#bytes > MAX_INCOMPLETE_BYTES) this.#refuseLargest();
  }

  /** Stops counting a request: it is complete or its call has ended. */
  #release(call: OpenCall): void {
    const { receiving, bytes, node } = call;
    if (!node) return;
    receiving.calls.remove(node);
    call.node = undefined;
    call.bytes = 0;
    receiving.bytes -= bytes;
    this.#bytes -= bytes;
    if (receiving.calls.size > 0 || !receiving.node) return;
    this.#receiving.remove(receiving.node);
    receiving.node = undefined;
  }

  #refuseLargest(): void {
    const { calls } = largest(this.#receiving, ({ bytes }) => bytes);
    const call = largest(calls, ({ bytes }) => bytes);
    this.#release(call);
    endCall(call.stream, new OverloadedError());
  }
}

/**
 * Removes the deadline of a call if a timer cannot hold it: grpc-js would end the call at once. Smaller units than
 * seconds cannot name so long a time.
 */
function limitTimeout(headers: IncomingHttpHeaders): void {
  const timeout = headers['grpc-timeout'];
  if (typeof timeout !== 'string') return;
  const unitMs = UNIT_MS[timeout.at(-1) ?? ''];
  if (unitMs !== undefined && Number.parseInt(timeout, 10) * unitMs > MAX_TIMER_MS) delete headers['grpc-timeout'];
}

/** An entry and its arrival time, in milliseconds of performance.now(). */
interface Timed<T> {
  readonly value: T;
  readonly since: number;
}

/**
 * Calls a function for each entry that lasts longer than a fixed time. One timer serves all
 * entries, because a timer for each call is a noticeable part of the cost of a call.
 */
class SharedTimeout<T> {
  readonly #ms: number;
  readonly #onTimeout: (value: T) => void;
  readonly #entries = new LinkedList<Timed<T>>();
  #timer: NodeJS.Timeout | undefined;

  constructor(ms: number, onTimeout: (value: T) => void) {
    this.#ms = ms;
    this.#onTimeout = onTimeout;
  }

  add(value: T): ListNode<Timed<T>> {
    this.#timer ??= this.#checkAfter(this.#ms);
    return this.#entries.add({ value, since: performance.now() });
  }

  remove(node: ListNode<Timed<T>>): void {
    this.#entries.remove(node);
  }

  /** Reports the entries that have timed out. They stay in the list until they are removed. */
  #check(): void {
    this.#timer = undefined;
    const timedOut: T[] = [];
    for (const { value, since } of this.#entries) {
      const leftMs = since + this.#ms - performance.now();
      if (leftMs > 0) {
        this.#timer = this.#checkAfter(leftMs);
        break;
      }
      timedOut.push(value);
    }
    for (const value of timedOut) this.#onTimeout(value);
  }

  #checkAfter(ms: number): NodeJS.Timeout {
    return setTimeout(() => this.#check(), Math.ceil(ms)).unref();
  }
}

/** Returns true if the first chunk of a request contains its whole message. */
function isComplete(chunk: Buffer): boolean {
  return chunk.length >= MESSAGE_PREFIX_BYTES && chunk.length - MESSAGE_PREFIX_BYTES >= chunk.readUInt32BE(1);
}

function largest<T>(items: Iterable<T>, sizeOf: (item: T) => number): T {
  return [...items].reduce((best, item) => (sizeOf(item) > sizeOf(best) ? item : best));
}

/**
 * Ends a call whose request is incomplete or whose response was not read completely. Sends the
 * error as its status if no response headers were sent yet, else resets the stream.
 */
function endCall(stream: ServerHttp2Stream, error: DomainError): void {
  if (stream.headersSent) {
    stream.close(NGHTTP2_CANCEL);
    return;
  }
  const { code, details, metadata } = toStatus(error);
  stream.respond(
    {
      ':status': 200,
      'content-type': 'application/grpc+proto',
      'grpc-status': code,
      'grpc-message': encodeURI(details),
      ...metadata.toHttp2Headers(),
    },
    { endStream: true },
  );
  stream.close(NGHTTP2_NO_ERROR);
}

/**
 * Returns the HTTP/2 servers of a gRPC server, from a private field: grpc-js has no public access
 * to its sessions.
 */
function http2ServersOf(server: Server): Http2Server[] {
  const { http2Servers } = server as unknown as { readonly http2Servers: ReadonlyMap<Http2Server, unknown> };
  return [...http2Servers.keys()];
}
