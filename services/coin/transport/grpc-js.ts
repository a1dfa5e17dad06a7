import type { Http2Server, IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { type Server, setLogger, status } from '@grpc/grpc-js';
import { BaseServerInterceptingCall } from '@grpc/grpc-js/build/src/server-interceptors';
import { newCallId } from '../call-id';
import { UndecodableMessageError } from '../errors';
import { toStatus, withCallId } from '../rpc/status';
import { count } from '../telemetry/metrics';
import { holdBack, PacedStreams } from './paced-streams';

// Everything of grpc-js 1.14 that is not public and used nevertheless. The tests of transport/ fail
// if it changes.

/** Returns the HTTP/2 servers of a gRPC server: grpc-js has no public access to its sessions. */
export function http2ServersOf(server: Server): Http2Server[] {
  const { http2Servers } = server as unknown as { readonly http2Servers: ReadonlyMap<Http2Server, unknown> };
  return [...http2Servers.keys()];
}

/** Returns undefined, or a promise that ends when grpc-js may have the stream. */
export type DelayOf = (stream: ServerHttp2Stream, path: string | undefined) => Promise<void> | undefined;

/**
 * Hides refused streams from grpc-js, which would answer some of them again, and fail; and paces the others. Streams that
 * `delayOf` delays are paused meanwhile: grpc-js answers a method that it does not know before any interceptor.
 */
export function passOpenStreams(http2Server: Http2Server, delayOf: DelayOf): void {
  const listeners = http2Server.listeners('stream');
  const paced = new PacedStreams();
  http2Server.removeAllListeners('stream');
  http2Server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, flags: unknown) => {
    if (stream.closed) return;
    const pass = () => {
      // It or its connection may have been ended while it waited.
      if (stream.closed || stream.destroyed) return;
      for (const listener of listeners) listener.call(http2Server, stream, headers, flags);
    };
    const delay = delayOf(stream, headers[':path']);
    if (delay === undefined) {
      paced.add(stream, pass);
      return;
    }
    holdBack(stream);
    void delay.then(pass);
  });
}

/** The private method of a call that decompresses a message. It rejects with a status. */
interface Decompressor {
  /** @param message with its prefix, whose first byte says if it is compressed */
  decompressMessage(message: Buffer, encoding: string): Buffer | Promise<Buffer>;
}

const NOT_COMPRESSED = 0;
const COMPRESSED = 1;
const { decompressMessage } = BaseServerInterceptingCall.prototype as unknown as Decompressor;

/**
 * Makes grpc-js refuse messages that cannot be decompressed as errors of their caller. It answers
 * INTERNAL to them, and ignores a compression flag that has no meaning. May be called again.
 */
export function checkCompression(): void {
  Object.assign(BaseServerInterceptingCall.prototype, {
    decompressMessage(message, encoding) {
      const [flag] = message;
      if (flag === NOT_COMPRESSED) return decompressMessage.call(this, message, encoding);
      if (flag !== COMPRESSED || encoding === 'identity') return Promise.reject(undecodable());
      return Promise.resolve(decompressMessage.call(this, message, encoding)).catch((error: { code?: status }) => {
        throw error.code === status.INTERNAL ? undecodable(error) : error;
      });
    },
  } satisfies Decompressor);
}

function undecodable(cause?: unknown) {
  const failure = toStatus(new UndecodableMessageError(cause));
  count.refused(failure.reason);
  return { ...failure, metadata: withCallId(failure.metadata, newCallId()) };
}

/**
 * Keeps grpc-js from printing the headers that it cannot use: it writes them to stderr with their
 * values, and a token may be among them. What GRPC_TRACE asks for is still printed.
 */
export function silenceHeaderErrors(): void {
  setLogger({ error: () => {}, info: console.error, debug: console.error });
}
