import type { Metadata } from '@grpc/grpc-js';
import {
  context,
  propagation,
  type Span,
  SpanKind,
  SpanStatusCode,
  type TextMapSetter,
  trace,
} from '@opentelemetry/api';
import { CoinServiceError } from '../../coin-client/coin-service-error';

/**
 * Returns a tracer of the tracer provider that the application has registered; without one, spans have no effect. It is
 * looked up for every span: an application of ES modules registers its provider in another copy of the API than ours,
 * and a tracer that our copy returned earlier would not notice.
 */
export const tracer = () => trace.getTracer('aqm.device');

const METADATA: TextMapSetter<Metadata> = {
  set: (metadata, key, value) => {
    // The application's baggage is not meant for the coin service.
    if (key !== 'baggage') metadata.set(key, value);
  },
};

export interface OutgoingCall {
  /** `/package.Service/Method`. */
  readonly path: string;
  /** The metadata of the call, to which the headers of the trace are added. */
  readonly metadata: Metadata;
  /** `host:port`, or another target of gRPC's name resolution. */
  readonly target: string;
  /** The number of the attempt, starting at 1. */
  readonly attempt: number;
}

/**
 * Runs one attempt of a call in a client span, and sends its context along, so that the service's spans join the trace.
 */
export function tracedCall<T>({ path, metadata, target, attempt }: OutgoingCall, send: () => Promise<T>): Promise<T> {
  const method = path.slice(1);
  const attributes = {
    'rpc.system.name': 'grpc',
    'rpc.method': method,
    'server.address': target,
    ...(attempt > 1 && { 'aqm.attempt': attempt }),
  };
  return tracer().startActiveSpan(method, { kind: SpanKind.CLIENT, attributes }, async (span) => {
    propagation.inject(context.active(), metadata, METADATA);
    try {
      const response = await send();
      span.setAttribute('rpc.response.status_code', 'OK');
      return response;
    } catch (error) {
      recordFailure(span, error);
      throw error;
    } finally {
      span.end();
    }
  });
}

/** Marks a span as failed. Of the error only its name is recorded, because a message may quote an argument. */
export function recordFailure(span: Span, error: unknown): void {
  if (error instanceof CoinServiceError) {
    // After a call grpc-js is loaded. A storage alone never loads it.
    const { status }: typeof import('@grpc/grpc-js') = require('@grpc/grpc-js');
    const code = status[error.code] ?? String(error.code);
    span.setAttributes({ 'rpc.response.status_code': code, 'error.type': code });
  } else span.setAttribute('error.type', error instanceof Error ? error.name : typeof error);
  span.setStatus({ code: SpanStatusCode.ERROR });
}
