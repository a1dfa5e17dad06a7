import { once } from 'node:events';
import { type ClientHttp2Session, type ClientHttp2Stream, connect, type OutgoingHttpHeaders } from 'node:http2';

/** The reply to one request. */
export interface Reply {
  /**
   * The grpc-status; 'REFUSED' if the request was refused as HTTP/2 (reset, or an HTTP status other than 200), 'NO_STATUS'
   * if the stream ended without one, 'NO_ANSWER' if nothing arrived in time.
   */
  readonly status: number | 'REFUSED' | 'NO_STATUS' | 'NO_ANSWER';
  readonly message: string;
}

/**
 * The time after which a request counts as unanswered; longer than the 60 s after which the service ends any call. A
 * message that inflates to megabytes takes hundreds of turns of its event loop.
 */
const LONGEST_ANSWER_MS = 70_000;

/** The path of the call that does not end by itself. */
const WATCH = '/grpc.health.v1.Health/Watch';

/** Sends raw bytes to gRPC methods over node:http2. A gRPC library would refuse to send invalid ones. */
export class Wire {
  readonly #sessions: ClientHttp2Session[];
  readonly #address: string;
  readonly #token: string;
  #next = 0;

  private constructor(sessions: ClientHttp2Session[], address: string, token: string) {
    this.#sessions = sessions;
    this.#address = address;
    this.#token = token;
  }

  static async open(address: string, token: string, connections: number): Promise<Wire> {
    const sessions = Array.from({ length: connections }, () => connect(`http://${address}`));
    await Promise.all(sessions.map((session) => once(session, 'connect')));
    for (const session of sessions) session.on('error', () => undefined);
    return new Wire(sessions, address, token);
  }

  /**
   * Sends one request. `body` is everything after the headers: messages with their 5-byte prefix of flag and length.
   * `headers` replace the usual ones; undefined removes one. Such calls have connections of their own, because the
   * service may close one. It is then replaced.
   */
  async send(path: string, body: Uint8Array, headers?: OutgoingHttpHeaders): Promise<Reply> {
    const half = this.#sessions.length / 2;
    const index = (this.#next++ % half) + (headers ? half : 0);
    if (this.#sessions[index]?.destroyed || this.#sessions[index]?.closed) {
      this.#sessions[index] = connect(`http://${this.#address}`).on('error', () => undefined);
    }
    const usual = {
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
      authorization: `Bearer ${this.#token}`,
    };
    let stream: ClientHttp2Stream;
    try {
      stream = (this.#sessions[index] as ClientHttp2Session).request({ ...usual, ...headers });
    } catch (error) {
      // Node itself refuses to send some headers.
      return { status: 'REFUSED', message: String(error) };
    }
    // Node has ended the request of a GET or HEAD.
    if (!stream.writableEnded) stream.end(body);
    return replyOf(stream, path === WATCH);
  }

  close(): void {
    for (const session of this.#sessions) session.destroy();
  }
}

function replyOf(stream: ClientHttp2Stream, isWatch: boolean): Promise<Reply> {
  return new Promise((resolve) => {
    let reply: Reply = { status: 'NO_STATUS', message: '' };
    const take = (headers: Record<string, unknown>): void => {
      if (headers[':status'] !== undefined && headers[':status'] !== 200) reply = { status: 'REFUSED', message: '' };
      if (headers['grpc-status'] === undefined) return;
      const message = decoded(String(headers['grpc-message'] ?? ''));
      reply = { status: Number(headers['grpc-status']), message };
    };
    const timer = setTimeout(() => {
      reply = { status: 'NO_ANSWER', message: `no answer within ${LONGEST_ANSWER_MS} ms` };
      stream.close();
    }, LONGEST_ANSWER_MS);
    stream.on('response', take);
    stream.on('trailers', take);
    stream.on('error', () => undefined);
    stream.on('close', () => {
      clearTimeout(timer);
      const isReset = reply.status === 'NO_STATUS' && stream.rstCode !== 0;
      resolve(isReset ? { status: 'REFUSED', message: `reset with ${stream.rstCode}` } : reply);
    });
    stream.on('data', () => {
      if (!isWatch) return;
      reply = { status: 0, message: '' };
      stream.close();
    });
  });
}

/** Decodes percent-encoding where there is any. */
function decoded(message: string): string {
  try {
    return decodeURIComponent(message);
  } catch {
    return message;
  }
}

/** Prefixes a message with its gRPC frame header: the flag for "not compressed" and the length. */
export function framed(message: Uint8Array): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}
