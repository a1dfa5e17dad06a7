import { once } from 'node:events';
import {
  type ClientHttp2Session,
  connect,
  createServer,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import { status } from '@grpc/grpc-js';
import { Any, ErrorInfo, RetryInfo } from 'nice-grpc-error-details';
import { Status } from 'nice-grpc-error-details/lib/proto/google/rpc/status';
import { withAddedDetail, withAddedFields } from './added-fields';

/**
 * The fault of one call:
 * - reply-lost: the service executes the call, then every connection of the client is reset;
 * - unavailable: the call does not reach the service; the answer asks for a pause of `RETRY_AFTER_MS`;
 * - too-late: the service executes the call, and the answer is DEADLINE_EXCEEDED without any details.
 */
export type Fault = 'reply-lost' | 'unavailable' | Refusal | 'too-late';

/** The fault `unavailable` with another pause. */
export interface Refusal {
  /** The delay in the RetryInfo, in milliseconds. */
  readonly retryAfterMs: number;
  /** The trailer grpc-retry-pushback-ms. Default: the delay. */
  readonly pushback?: string | undefined;
}

/** Longer than the first pauses that the examples choose themselves, in milliseconds. */
export const RETRY_AFTER_MS = 1000;

export interface Faults {
  /** The number of first connections that are reset. */
  readonly refusedConnections?: number;
  /** The faults of the first calls of a method, in their order. */
  readonly calls?: Readonly<Record<string, readonly Fault[]>>;
  /** Adds fields that no client knows to every message and every status. */
  readonly addsFields?: boolean;
}

export interface SeenCall {
  readonly method: string;
  readonly request: Buffer;
  readonly atMs: number;
}

interface Answer {
  readonly headers: OutgoingHttpHeaders;
  readonly body: Buffer;
  readonly trailers: OutgoingHttpHeaders | undefined;
}

/** Forwards the unary calls of one client to the service, with the given faults. */
export class FaultyProxy {
  /** The client's calls, in their order. */
  readonly seen: SeenCall[] = [];
  readonly #service: ClientHttp2Session;
  readonly #server = createServer();
  readonly #sockets = new Set<Socket>();
  readonly #faults: Faults;
  #connections = 0;

  private constructor(serviceAddress: string, faults: Faults) {
    this.#service = connect(`http://${serviceAddress}`);
    this.#faults = faults;
    this.#server.on('connection', (socket: Socket) => {
      this.#connections += 1;
      this.#sockets.add(socket.on('error', () => undefined).on('close', () => this.#sockets.delete(socket)));
      if (this.#connections <= (faults.refusedConnections ?? 0)) socket.resetAndDestroy();
    });
    this.#server.on('sessionError', () => undefined);
    this.#server.on('stream', (stream, headers) => {
      stream.on('error', () => undefined);
      void this.#serve(stream, headers).catch(() => stream.destroy());
    });
  }

  static async open(serviceAddress: string, faults: Faults = {}): Promise<FaultyProxy> {
    const proxy = new FaultyProxy(serviceAddress, faults);
    await once(proxy.#service, 'connect');
    await once(proxy.#server.listen(0, '127.0.0.1'), 'listening');
    return proxy;
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get connections(): number {
    return this.#connections;
  }

  of(method: string): SeenCall[] {
    return this.seen.filter((call) => call.method === method);
  }

  close(): void {
    this.#server.close();
    this.#service.destroy();
    this.#reset();
  }

  async #serve(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): Promise<void> {
    const method = headers[':path']?.split('/').at(-1) ?? '';
    const request = await bytesOf(stream);
    this.seen.push({ method, request, atMs: performance.now() });
    const fault = this.#faults.calls?.[method]?.[this.of(method).length - 1];
    const change = this.#faults.addsFields ? embellished : (answer: Answer) => answer;
    if (fault === 'unavailable' || typeof fault === 'object') {
      reply(stream, change(overloaded(fault === 'unavailable' ? { retryAfterMs: RETRY_AFTER_MS } : fault), method));
      return;
    }
    const answer = await this.#pass(headers, request);
    if (fault === 'reply-lost') this.#reset();
    else reply(stream, change(fault === 'too-late' ? failure(status.DEADLINE_EXCEEDED) : answer, method));
  }

  async #pass(headers: IncomingHttpHeaders, request: Buffer): Promise<Answer> {
    const { ':authority': _, ...passed } = headers;
    const stream = this.#service.request(passed);
    stream.end(request);
    let trailers: IncomingHttpHeaders | undefined;
    stream.on('trailers', (received) => {
      trailers = received;
    });
    const [received] = (await once(stream, 'response')) as [IncomingHttpHeaders];
    const body = await bytesOf(stream);
    return { headers: received, body, trailers };
  }

  #reset(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }
}

async function bytesOf(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function reply(stream: ServerHttp2Stream, { headers, body, trailers }: Answer): void {
  stream.respond(headers, { endStream: trailers === undefined, waitForTrailers: trailers !== undefined });
  if (trailers === undefined) return;
  stream.on('wantTrailers', () => stream.sendTrailers(trailers));
  stream.end(body);
}

function failure(code: status, details?: Uint8Array, pushback?: string): Answer {
  const packed = {
    ...(details && { 'grpc-status-details-bin': Buffer.from(details).toString('base64') }),
    ...(pushback !== undefined && { 'grpc-retry-pushback-ms': pushback }),
  };
  const headers = { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': String(code), ...packed };
  return { headers, body: Buffer.alloc(0), trailers: undefined };
}

/** Returns the service's answer to a call that it refuses because of overload. */
function overloaded(refusal: Refusal): Answer {
  const { retryAfterMs } = refusal;
  const retryDelay = { seconds: Math.floor(retryAfterMs / 1000), nanos: (retryAfterMs % 1000) * 1_000_000 };
  const details = [
    any('ErrorInfo', ErrorInfo.encode(ErrorInfo.fromPartial({ reason: 'OVERLOADED', domain: 'coin.aqm' })).finish()),
    any('RetryInfo', RetryInfo.encode(RetryInfo.fromPartial({ retryDelay })).finish()),
  ];
  const code = status.UNAVAILABLE;
  const packed = Status.encode(Status.fromPartial({ code, message: 'too much to do', details })).finish();
  return failure(code, packed, 'pushback' in refusal ? refusal.pushback : String(retryAfterMs));
}

function any(type: string, value: Uint8Array): Any {
  return Any.fromPartial({ typeUrl: `type.googleapis.com/google.rpc.${type}`, value });
}

function embellished({ headers, body, trailers }: Answer, method: string): Answer {
  const more = (fields: OutgoingHttpHeaders): OutgoingHttpHeaders => {
    const packed = fields['grpc-status-details-bin'];
    if (typeof packed !== 'string') return fields;
    return { ...fields, 'grpc-status-details-bin': withAddedDetail(Buffer.from(packed, 'base64')).toString('base64') };
  };
  return {
    headers: more(headers),
    body: body.length > 0 ? withAddedFields(method, body) : body,
    trailers: trailers && more(trailers),
  };
}
