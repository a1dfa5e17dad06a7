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
import { keepStreamsApart } from './open-streams';

export interface SessionLimits {
  /** Calls of one connection at the same time. */
  readonly maxStreams: number;
  /** Headers of one call, in bytes, as HTTP/2 counts them. */
  readonly maxHeaderBytes: number;
  /** From the first byte of a call to the last byte of its answer, in milliseconds. */
  readonly callTimeoutMs: number;
}

export interface SessionsOptions extends SessionLimits {
  /** Calls of all connections at the same time, those that are not worked on included. */
  readonly maxOpen: number;
}

/** Runs as long as its caller wants to be told. */
const WATCH = '/grpc.health.v1.Health/Watch';

/** PING and SETTINGS frames that a connection without a new call may send in CONTROL_WINDOW_MS. gRPC clients send a few. */
const MAX_CONTROL_FRAMES = 200;
const CONTROL_WINDOW_MS = 60_000;

/**
 * Bytes of requests that are not whole yet, of all connections together. The largest request has 1 MiB. Beyond it, the
 * connection that holds the most pays, so that many large requests of one peer refuse nobody else's.
 */
const MAX_RECEIVING = 64 * 1024 * 1024;
/** What a compressed request is counted as, until its call is over: it inflates unseen, to four times as much at most. */
const COMPRESSED_BYTES = 2 * 1024 * 1024;

/** Of a message of gRPC: whether it is compressed, and how long it is. */
const MESSAGE_HEAD = 5;

const { NGHTTP2_CANCEL, NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_NO_ERROR, NGHTTP2_REFUSED_STREAM } = constants;

/** What one connection has sent of requests that are not whole yet. */
interface Receiving {
  bytes: number;
  readonly calls: LinkedList<OpenCall>;
  /** Among those that have sent some. */
  place: ListNode<Receiving> | undefined;
}

/** From its first byte to its end. */
interface OpenCall {
  readonly stream: ServerHttp2Stream;
  readonly receiving: Receiving;
  /** Of its request, until that is whole. */
  bytes: number;
  /** Among those of its connection that have sent some. */
  place: ListNode<OpenCall> | undefined;
  /** Among those that may become late. */
  late: ListNode<Since<OpenCall>> | undefined;
}

/** What gRPC leaves open between it and HTTP/2: how long a call may take, and what a connection may do without any. */
export class Sessions {
  readonly #options: SessionsOptions;
  readonly #late: OldestFirst<OpenCall>;
  /** Of those connections that have sent some. */
  readonly #receiving = new LinkedList<Receiving>();
  /** Of all of them. */
  #bytes = 0;
  #open = 0;

  /** Limits all connections of a server from now on. */
  constructor(server: Server, options: SessionsOptions) {
    this.#options = options;
    this.#late = new OldestFirst(options.callTimeoutMs, ({ stream }) => end(stream, new DeadlineExceededError()));
    const { maxStreams: maxConcurrentStreams, maxHeaderBytes: maxHeaderListSize } = options;
    for (const http2Server of http2ServersOf(server)) {
      http2Server.updateSettings({ maxConcurrentStreams, maxHeaderListSize });
      http2Server.on('session', (session) => this.#watch(session));
    }
  }

  #watch(session: ServerHttp2Session): void {
    keepStreamsApart(session);
    let frames = 0;
    let since = Date.now();
    const count = () => {
      frames += 1;
      if (frames < MAX_CONTROL_FRAMES) return;
      const now = Date.now();
      if (now - since < CONTROL_WINDOW_MS) {
        session.destroy(new Error('too many PING and SETTINGS frames'), NGHTTP2_ENHANCE_YOUR_CALM);
      }
      frames = 0;
      since = now;
    };
    session.on('ping', count);
    session.on('remoteSettings', count);
    const receiving: Receiving = { bytes: 0, calls: new LinkedList(), place: undefined };
    session.on('stream', (stream, headers) => {
      // Clients that measure the line send a ping with their calls.
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
    const call: OpenCall = { stream, receiving, bytes: 0, place: undefined, late: undefined };
    if (headers[constants.HTTP2_HEADER_PATH] !== WATCH) call.late = this.#late.add(call);
    if ((headers['grpc-encoding'] ?? 'identity') === 'identity') {
      // gRPC has paused the stream, so this does not make it flow. Most requests come in one piece: then nothing is held.
      stream.on('data', (piece: Buffer) => {
        if (call.bytes > 0 || !isWhole(piece)) this.#hold(call, piece.length);
      });
      stream.on('end', () => this.#release(call));
    } else this.#hold(call, COMPRESSED_BYTES);
    // Each is told once; "once" would cost a function more.
    stream.on('close', () => {
      if (call.late) this.#late.leave(call.late);
      this.#release(call);
      this.#open -= 1;
    });
  }

  #hold(call: OpenCall, bytes: number): void {
    if (call.stream.closed) return;
    const { receiving } = call;
    call.bytes += bytes;
    call.place ??= receiving.calls.add(call);
    receiving.bytes += bytes;
    receiving.place ??= this.#receiving.add(receiving);
    this.#bytes += bytes;
    while (this.#bytes > MAX_RECEIVING) this.#endLargest();
  }

  #release(call: OpenCall): void {
    const { receiving, bytes, place } = call;
    if (!place) return;
    receiving.calls.remove(place);
    call.place = undefined;
    call.bytes = 0;
    receiving.bytes -= bytes;
    this.#bytes -= bytes;
    if (receiving.calls.size > 0 || !receiving.place) return;
    this.#receiving.remove(receiving.place);
    receiving.place = undefined;
  }

  #endLargest(): void {
    const { calls } = largest(this.#receiving, ({ bytes }) => bytes);
    const call = largest(calls, ({ bytes }) => bytes);
    this.#release(call);
    end(call.stream, new OverloadedError());
  }
}

/** With when it came, in milliseconds. */
interface Since<T> {
  readonly one: T;
  readonly since: number;
}

/** What may last so long and then is told, with one timer for all: a timer for each is a part of what a call costs. */
class OldestFirst<T> {
  readonly #ms: number;
  readonly #onLate: (one: T) => void;
  readonly #queue = new LinkedList<Since<T>>();
  #timer: NodeJS.Timeout | undefined;

  constructor(ms: number, onLate: (one: T) => void) {
    this.#ms = ms;
    this.#onLate = onLate;
  }

  add(one: T): ListNode<Since<T>> {
    this.#timer ??= this.#lookAfter(this.#ms);
    return this.#queue.add({ one, since: performance.now() });
  }

  leave(place: ListNode<Since<T>>): void {
    this.#queue.remove(place);
  }

  /** What is late has been told, and leaves when it ends. */
  #look(): void {
    this.#timer = undefined;
    const late: T[] = [];
    for (const { one, since } of this.#queue) {
      const leftMs = since + this.#ms - performance.now();
      if (leftMs > 0) {
        this.#timer = this.#lookAfter(leftMs);
        break;
      }
      late.push(one);
    }
    for (const one of late) this.#onLate(one);
  }

  #lookAfter(ms: number): NodeJS.Timeout {
    return setTimeout(() => this.#look(), Math.ceil(ms)).unref();
  }
}

/** Whether the first piece of a request is all of its message: a byte, four of the length, and so many. */
function isWhole(piece: Buffer): boolean {
  return piece.length >= MESSAGE_HEAD && piece.length - MESSAGE_HEAD >= piece.readUInt32BE(1);
}

function largest<T>(all: Iterable<T>, sizeOf: (one: T) => number): T {
  return [...all].reduce((best, one) => (sizeOf(one) > sizeOf(best) ? one : best));
}

/** With a status where none was sent: its caller may not have sent its whole request, or not read its whole answer. */
function end(stream: ServerHttp2Stream, error: DomainError): void {
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

/** grpc-js has no other way to its sessions. */
function http2ServersOf(server: Server): Http2Server[] {
  const { http2Servers } = server as unknown as { readonly http2Servers: ReadonlyMap<Http2Server, unknown> };
  return [...http2Servers.keys()];
}
