import { constants, type ServerHttp2Stream } from 'node:http2';
import { newCallId } from '../call-id';
import type { CallObserver } from '../interceptors/intercept';
import { type FailureStatus, factsOf, withCallId } from '../rpc/status';

/** Time for trailers to be sent, in milliseconds. node:http2 does not report when they are, and a reset would overtake them. */
const TRAILERS_MS = 1000;

const { NGHTTP2_CANCEL, NGHTTP2_NO_ERROR } = constants;

/** A call that the transport ends, with what is notified of its status if one is sent. */
export interface EndedCall {
  readonly stream: ServerHttp2Stream;
  readonly path: string;
  readonly observer: CallObserver;
}

/**
 * Ends a call whose request is incomplete or whose response was not read completely. Sends the
 * failure if no response headers were sent yet, else resets the stream. Thousands of calls may end with
 * the same failure in a second, so it is given as its status, which is encoded once.
 */
export function endCall({ stream, path, observer }: EndedCall, failure: FailureStatus): void {
  if (stream.closed) return;
  if (stream.headersSent) {
    stream.close(NGHTTP2_CANCEL);
    return;
  }
  const { code, details, metadata } = failure;
  const callId = newCallId();
  observer(path, callId)({ code, failure: factsOf({ metadata }) });
  stream.respond(
    {
      ':status': 200,
      'content-type': 'application/grpc+proto',
      'grpc-status': code,
      'grpc-message': encodeURI(details),
      ...withCallId(metadata, callId).toHttp2Headers(),
    },
    { endStream: true },
  );
  stream.close(NGHTTP2_NO_ERROR);
}

/** Ends a call that grpc-js has not seen or that makes room for another one, and frees its stream at once. */
export function refuse(call: EndedCall, failure: FailureStatus): void {
  const { stream } = call;
  stream.on('error', ignore);
  endCall(call, failure);
  // A status is followed by the reset when the stream is finished, in this turn of the event loop.
  if (stream.rstCode === NGHTTP2_NO_ERROR) stream.once('finish', () => stream.destroy());
  else stream.destroy();
}

const NOT_GRPC =
  'This port serves gRPC: the content type must be application/grpc or application/grpc+proto. gRPC-Web and JSON are not served.\n';

/** Refuses a request of another protocol with HTTP 415, as gRPC prescribes, and frees its stream at once. */
export function refuseProtocol(stream: ServerHttp2Stream): void {
  stream.on('error', ignore);
  stream.respond({ ':status': 415, 'content-type': 'text/plain; charset=utf-8' });
  stream.once('finish', () => stream.destroy());
  stream.end(NOT_GRPC);
  stream.close(NGHTTP2_NO_ERROR);
}

/** Resets a stream that grpc-js has not seen, and frees it at once. */
export function reset(stream: ServerHttp2Stream, code: number): void {
  stream.on('error', ignore);
  stream.close(code);
  stream.destroy();
}

/**
 * Resets a stream that was answered while its client still sends the request. It would stay open, and be read, until its
 * client ends it, or until the timeout of the call. A listener for its event `finish`.
 */
export function resetWhenAnswered(this: ServerHttp2Stream): void {
  // A response with messages ends with trailers, which are sent after this event, and a reset would
  // overtake them.
  const hasTrailers = this.sentHeaders?.['grpc-status'] === undefined && this.sentHeaders?.[':status'] === 200;
  if (!hasTrailers) endRequest(this);
}

/**
 * Does the same for a response with messages, which ends with trailers: its request is not read any further, and the stream
 * is reset when the trailers have been sent. A listener for its event `wantTrailers`, before that of grpc-js, which sends
 * the trailers and then reads and ignores the rest of the request.
 */
export function resetAfterTrailers(this: ServerHttp2Stream): void {
  if (this.readableEnded) return;
  setImmediate(() => this.pause());
  setTimeout(endRequest, TRAILERS_MS, this).unref();
}

function endRequest(stream: ServerHttp2Stream): void {
  if (!stream.readableEnded && !stream.closed && stream.state.remoteClose !== 1) stream.close(NGHTTP2_NO_ERROR);
}

function ignore(): void {}
