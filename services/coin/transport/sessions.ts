import { constants, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { Server } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { DeadlineExceededError, OverloadedError, ShuttingDownError } from '../errors';
import type { CallObserver } from '../interceptors/intercept';
import type { ListNode } from '../linked-list';
import { toStatus } from '../rpc/status';
import { count } from '../telemetry/metrics';
import { CALL_KINDS, type CallKind, checkTimeout, isGrpc, kindOf, WATCH } from './call-headers';
import { endCall, refuse, refuseProtocol, reset, resetAfterTrailers, resetWhenAnswered } from './end-call';
import { checkCompression, http2ServersOf, passOpenStreams, silenceHeaderErrors } from './grpc-js';
import { IncompleteRequests, type ReceivedCall, Receiving } from './incomplete-requests';
import { networkOf } from './listener';
import { replaceStreamMap } from './open-streams';
import { type Holder, Places } from './places';
import { RefusalPause } from './refusal-pause';
import { RefusalReport } from './refusal-report';
import { SharedTimeout, type Timed } from './shared-timeout';

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
   * Health watches and reflection streams have as many places of their own.
   */
  readonly maxOpen: number;
  readonly logger: Logger;
  /** Is notified of the calls that are ended here with a status. */
  readonly observer: CallObserver;
  /**
   * Is asked for each call. Returns undefined, or what a call of a method that does not exist has to wait for, because there
   * are too many of them from one network.
   */
  readonly delayUnknown: (path: string, network: () => string) => Promise<void> | undefined;
}

/** Number of places for health checks. A check is answered at once, so they are free unless clients hold them on purpose. */
const HEALTH_PLACES = 256;
/**
 * Maximum number of open health watches and reflection streams of one connection. A gRPC client
 * with health checking has one for each service that it uses.
 */
const MAX_STREAMS_PER_CONNECTION = 8;
/** Time for which a connection is not read when many of its calls got no place, in milliseconds; see RefusalPause. */
const PAUSE_MS = 1000;
/** Time that health watches and reflection streams have to end by themselves when the server stops, in milliseconds. */
const END_GRACE_MS = 1000;

/**
 * Maximum number of PING and SETTINGS frames without a new call in CONTROL_WINDOW_MS. gRPC clients
 * send a few.
 */
const MAX_CONTROL_FRAMES = 200;
const CONTROL_WINDOW_MS = 60_000;

/**
 * Assumed size of a compressed request until its call ends. grpc-js inflates it internally, to at
 * most four times as much.
 */
const COMPRESSED_BYTES = 2 * 1024 * 1024;

/** Size of the prefix of a gRPC message: compression flag (1 byte) and message length (4 bytes). */
const MESSAGE_PREFIX_BYTES = 5;

const OVERLOADED = toStatus(new OverloadedError());
const DEADLINE_EXCEEDED = toStatus(new DeadlineExceededError());
const SHUTTING_DOWN = toStatus(new ShuttingDownError());

const { NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_REFUSED_STREAM } = constants;

interface Connection {
  readonly network: string;
  readonly receiving: Receiving;
  readonly pause: RefusalPause;
  /** Its places of each kind, once it had a call of the kind. */
  readonly holders: { [Kind in CallKind]: Holder<OpenCall> | undefined };
}

/** A call, from its headers until its stream is closed. */
interface OpenCall extends ReceivedCall {
  readonly kind: CallKind;
  readonly pause: RefusalPause;
  readonly holder: Holder<OpenCall>;
  /** Its place; undefined once it was released. */
  place: ListNode<OpenCall> | undefined;
  /** True once the whole request was passed on to grpc-js. */
  isComplete: boolean;
  /** Position in the list of calls that can time out. */
  timeoutNode: ListNode<Timed<OpenCall>> | undefined;
}

/**
 * Enforces limits that grpc-js does not have: open calls, the total time of a call, the size of
 * incomplete requests, and control frames without calls. Refuses a call before grpc-js sees it.
 */
export class Sessions {
  readonly #places: Readonly<Record<CallKind, Places<OpenCall>>>;
  readonly #timeouts: SharedTimeout<OpenCall>;
  readonly #incomplete = new IncompleteRequests();
  readonly #report: RefusalReport;
  readonly #options: SessionsOptions;

  /** Applies the limits to all future connections of a server. */
  constructor(server: Server, options: SessionsOptions) {
    this.#options = options;
    const { maxStreams: maxConcurrentStreams, maxHeaderBytes: maxHeaderListSize, maxOpen, callTimeoutMs } = options;
    this.#timeouts = new SharedTimeout(callTimeoutMs, (call) => endCall(call, DEADLINE_EXCEEDED));
    const places = (max: number, isAlwaysOpen: boolean) =>
      new Places<OpenCall>({ max, isAlwaysOpen, mayEnd, end: (call) => this.#makeRoom(call) });
    this.#places = {
      call: places(maxOpen, false),
      stream: places(maxOpen, false),
      health: places(HEALTH_PLACES, true),
    };
    this.#report = new RefusalReport(options.logger, (kind) => this.#places[kind]);
    checkCompression();
    silenceHeaderErrors();
    for (const http2Server of http2ServersOf(server)) {
      http2Server.updateSettings({ maxConcurrentStreams, maxHeaderListSize });
      http2Server.on('session', (session) => this.#watch(session));
      passOpenStreams(http2Server, ({ session }, path = '') =>
        options.delayUnknown(path, () => networkOf(session?.socket?.remoteAddress ?? '')),
      );
    }
  }

  /**
   * Ends all calls that would hold up the stop of the server although nothing is done for them:
   * those whose request is incomplete now, and streams that did not end by themselves soon after.
   * Requests that are complete are answered.
   */
  drain(): void {
    this.#endAll(CALL_KINDS, ({ isComplete, stream }) => !isComplete && !stream.headersSent);
    setTimeout(() => this.#endAll(['stream', 'health'], () => true), END_GRACE_MS).unref();
  }

  #endAll(kinds: readonly CallKind[], accepts: (call: OpenCall) => boolean): void {
    const calls = kinds.flatMap((kind) => this.#places[kind].holders.flatMap((holder) => [...holder.calls]));
    for (const call of calls.filter(accepts)) endCall(call, SHUTTING_DOWN);
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
    const connection: Connection = {
      network: networkOf(session.socket?.remoteAddress ?? ''),
      receiving: new Receiving(),
      pause: new RefusalPause(session, { pauseMs: PAUSE_MS, maxStreams: this.#options.maxStreams }),
      holders: { call: undefined, stream: undefined, health: undefined },
    };
    // Before the listener of node:http2, which passes the stream to grpc-js.
    session.prependListener('stream', (stream, headers) => {
      // Some clients send a PING with each call to measure the round-trip time.
      frames = 0;
      this.#admit(stream, headers, connection);
    });
    session.on('close', () => {
      for (const kind of CALL_KINDS) {
        const holder = connection.holders[kind];
        if (holder) this.#places[kind].leave(holder);
      }
    });
  }

  #admit(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, connection: Connection): void {
    if (!isGrpc(headers)) {
      refuseProtocol(stream);
      connection.pause.count();
      return;
    }
    const path = headers[':path'] ?? '';
    const { observer } = this.#options;
    const kind = kindOf(path);
    const places = this.#places[kind];
    connection.holders[kind] ??= places.join(connection.network);
    const holder = connection.holders[kind];
    const error = checkTimeout(headers);
    if (error) {
      count.refused(error.reason);
      refuse({ stream, path, observer }, toStatus(error));
      connection.pause.count();
      return;
    }
    if (kind === 'stream' && holder.calls.size >= MAX_STREAMS_PER_CONNECTION) {
      this.#report.refused(kind);
      refuse({ stream, path, observer }, OVERLOADED);
      connection.pause.count();
      return;
    }
    const call: OpenCall = {
      stream,
      path,
      observer,
      kind,
      holder,
      pause: connection.pause,
      place: undefined,
      isComplete: false,
      timeoutNode: undefined,
      receiving: connection.receiving,
      bytes: 0,
      receivingNode: undefined,
    };
    call.place = places.take(holder, call);
    if (!call.place) {
      this.#report.refused(kind);
      reset(stream, NGHTTP2_REFUSED_STREAM);
      connection.pause.count();
      return;
    }
    if (path !== WATCH) call.timeoutNode = this.#timeouts.add(call);
    const isCompressed = (headers['grpc-encoding'] ?? 'identity') !== 'identity';
    if (isCompressed) this.#incomplete.hold(call, COMPRESSED_BYTES);
    else {
      // grpc-js pauses the stream in this turn of the event loop, so this listener does not start
      // the flow. Most requests arrive complete in one chunk.
      stream.on('data', (chunk: Buffer) => {
        if (call.bytes > 0 || !isWhole(chunk)) this.#incomplete.hold(call, chunk.length);
      });
    }
    stream.on('end', () => {
      call.isComplete = true;
      if (!isCompressed) this.#incomplete.release(call);
    });
    stream.on('finish', resetWhenAnswered);
    // Only these are answered with messages before their request has ended.
    if (kind === 'stream') stream.on('wantTrailers', resetAfterTrailers);
    // Emitted once per stream; `once` would allocate one more function.
    stream.on('close', () => {
      if (call.timeoutNode) this.#timeouts.remove(call.timeoutNode);
      this.#incomplete.release(call);
      this.#release(call);
    });
  }

  #release(call: OpenCall): void {
    if (!call.place) return;
    this.#places[call.kind].release(call.holder, call.place);
    call.place = undefined;
  }

  /** Ends a call, so that a new one gets its place. */
  #makeRoom(call: OpenCall): void {
    this.#release(call);
    this.#report.ended(call.kind);
    refuse(call, OVERLOADED);
    call.pause.count();
  }
}

/** Returns true if ending the call loses no work: its request is incomplete, or it is answered. */
function mayEnd({ isComplete, stream }: OpenCall): boolean {
  return !isComplete || stream.headersSent;
}

/** Returns true if the first chunk of a request contains its whole message. */
function isWhole(chunk: Buffer): boolean {
  return chunk.length >= MESSAGE_PREFIX_BYTES && chunk.length - MESSAGE_PREFIX_BYTES >= chunk.readUInt32BE(1);
}
