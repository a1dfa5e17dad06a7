import type { Metadata } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import {
  type Attributes,
  context,
  propagation,
  type Span,
  SpanKind,
  SpanStatusCode,
  type TextMapSetter,
  trace,
} from '@opentelemetry/api';
import { isServiceError } from '../flows/service-error';

/**
 * Of whatever tracer provider the application has registered; without one its spans are nothing. Asked for each time: an application
 * of ES modules registers it in another copy of the API than ours, and what ours gave out before would never hear of it.
 */
const tracer = () => trace.getTracer('aqm.device');

/**
 * Runs `work` as a span of the running one. Ids, bytes and contacts are never attributes, and of errors only their names: what
 * they say may quote an argument.
 */
export function traced<T>(name: string, attributes: Attributes, work: (span: Span) => Promise<T>): Promise<T> {
  return tracer().startActiveSpan(name, { attributes }, async (span) => {
    try {
      return await work(span);
    } catch (error) {
      fail(span, error);
      throw error;
    } finally {
      span.end();
    }
  });
}

const METADATA: TextMapSetter<Metadata> = {
  set: (metadata, key, value) => {
    // What else the application carries along is not for the coin service.
    if (key !== 'baggage') metadata.set(key, value);
  },
};

export interface OutgoingCall {
  /** `/package.Service/Method`. */
  readonly path: string;
  /** Gets the trace's headers. */
  readonly metadata: Metadata;
  /** `host:port`, or as gRPC resolves it. */
  readonly target: string;
  /** From 1. */
  readonly attempt: number;
}

/** The same for one attempt of a call, so that the service's spans belong to the same trace. */
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
      fail(span, error);
      throw error;
    } finally {
      span.end();
    }
  });
}

function fail(span: Span, error: unknown): void {
  if (isServiceError(error)) {
    const code = status[error.code] ?? String(error.code);
    span.setAttributes({ 'rpc.response.status_code': code, 'error.type': code });
  } else span.setAttribute('error.type', error instanceof Error ? error.name : typeof error);
  span.setStatus({ code: SpanStatusCode.ERROR });
}
