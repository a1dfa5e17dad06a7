import { once } from 'node:events';
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2';

/** The reply to one request. */
export interface Reply {
  /** The grpc-status; 'NO_STATUS' if the stream ended without one, 'NO_ANSWER' if nothing arrived in time. */
  readonly status: number | 'NO_STATUS' | 'NO_ANSWER';
  readonly message: string;
}

/** The time after which a request counts as unanswered; longer than any deadline of the service. */
const LONGEST_ANSWER_MS = 20_000;

/** Sends raw bytes to gRPC methods over node:http2. A gRPC library would refuse to send invalid ones. */
export class Wire {
  readonly #sessions: ClientHttp2Session[];
  readonly #token: string;
  #next = 0;

  private constructor(sessions: ClientHttp2Session[], token: string) {
    this.#sessions = sessions;
    this.#token = token;
  }

  static async open(address: string, token: string, connections: number): Promise<Wire> {
    const sessions = Array.from({ length: connections }, () => connect(`http://${address}`));
    await Promise.all(sessions.map((session) => once(session, 'connect')));
    for (const session of sessions) session.on('error', () => undefined);
    return new Wire(sessions, token);
  }

  /**
   * Sends one request. `body` is everything after the headers: messages with their 5-byte prefix of flag and length.
   */
  async send(path: string, body: Uint8Array): Promise<Reply> {
    const session = this.#sessions[this.#next++ % this.#sessions.length];
    if (!session || session.destroyed) return { status: 'NO_STATUS', message: 'the connection was lost' };
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
      authorization: `Bearer ${this.#token}`,
    });
    stream.end(body);
    return replyOf(stream);
  }

  close(): void {
    for (const session of this.#sessions) session.destroy();
  }
}

function replyOf(stream: ClientHttp2Stream): Promise<Reply> {
  return new Promise((resolve) => {
    let reply: Reply = { status: 'NO_STATUS', message: '' };
    const take = (headers: Record<string, unknown>): void => {
      if (headers['grpc-status'] === undefined) return;
      const message = decodeURIComponent(String(headers['grpc-message'] ?? ''));
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
      resolve(reply);
    });
    stream.resume();
  });
}

/** Prefixes a message with its gRPC frame header: the flag for "not compressed" and the length. */
export function framed(message: Uint8Array): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}
