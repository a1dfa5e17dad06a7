import {
  context,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type TextMapGetter,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import { summaryOf } from './query-summary';

/** undefined while tracing is off, which then costs one comparison per call. */
let tracer: Tracer | undefined;

/** Sampling ratio of calls that do not belong to a trace yet, from 0 to 1. */
let ratio = 1;
/** Names of the headers that carry a caller's trace context. */
let headers: readonly string[] = [];

/** Starts to create spans for calls and their statements, with the registered tracer provider. */
export function enableTracing(ratioOfNew = 1): void {
  tracer = trace.getTracer('aqm.coin');
  ratio = ratioOfNew;
  headers = propagation.fields().filter((name) => name !== 'baggage');
}

/** The part of gRPC's Metadata that is used here. */
interface Carrier {
  get(key: string): readonly (string | Buffer)[];
  toJSON(): Record<string, unknown>;
}

const METADATA: TextMapGetter<Carrier> = {
  get: (metadata, key) => metadata.get(key).filter((value) => typeof value === 'string'),
  keys: (metadata) => Object.keys(metadata.toJSON()),
};

/** Outcome of a call. */
export interface TracedOutcome {
  /** Name of the gRPC code. */
  readonly code: string;
  /** The reason of the ErrorInfo. */
  readonly reason?: string;
  /** True if the server is responsible for the failure, not the caller. */
  readonly isServerFault?: boolean;
}

/**
 * Runs one call in a span that continues the caller's trace. `work` receives the function to call
 * with the outcome, or undefined if the call is not traced.
 *
 * A call that is not sampled runs without any context, so its statements create no spans either.
 * That makes sampling cheap. Baggage of the caller is not propagated.
 */
export function traceCall(
  path: string,
  callId: string,
  metadata: Carrier,
  work: (onEnd: ((outcome: TracedOutcome) => void) | undefined) => void,
): void {
  if (!tracer) {
    work(undefined);
    return;
  }
  // Sampling here costs nothing for a call that is not traced. The SDK would allocate a span before
  // its sampler decides.
  if (Math.random() >= ratio && !headers.some((name) => metadata.get(name).length > 0)) {
    work(undefined);
    return;
  }
  const caller = propagation.extract(ROOT_CONTEXT, metadata, METADATA);
  const method = path.slice(1);
  const span = tracer.startSpan(method, { kind: SpanKind.SERVER }, caller);
  if (!span.isRecording()) {
    work(undefined);
    return;
  }
  span.setAttributes({ 'rpc.system.name': 'grpc', 'rpc.method': method, 'aqm.call_id': callId });
  const onEnd = ({ code, reason, isServerFault }: TracedOutcome): void => {
    span.setAttribute('rpc.response.status_code', code);
    if (reason !== undefined) span.setAttributes({ 'error.type': code, 'aqm.reason': reason });
    if (isServerFault) span.setStatus({ code: SpanStatusCode.ERROR });
    span.end();
  };
  context.with(trace.setSpan(ROOT_CONTEXT, span), work, undefined, onEnd);
}

/** Returns the span of the running call if it is recorded. */
function activeSpan(): Span | undefined {
  const span = trace.getSpan(context.active());
  return span?.isRecording() ? span : undefined;
}

/** The span of a running SQL statement. */
export class StatementSpan {
  readonly #span: Span;

  private constructor(span: Span) {
    this.#span = span;
  }

  /**
   * Starts the span of a statement that serves the running call, or a batch of fetches. A
   * batch's span belongs to the trace of its first call and has links to all of them. Returns
   * undefined if none of them is traced. The statement's text contains no values:
   * parameters never appear in a span.
   */
  static begin(text: string, waitMs: number, batch?: TracedBatch): StatementSpan | undefined {
    if (!tracer) return undefined;
    const parent = parentOf(batch);
    if (!parent) return undefined;
    const { summary, operation } = summaryOf(text);
    const span = tracer.startSpan(
      summary,
      {
        kind: SpanKind.CLIENT,
        attributes: {
          'db.system.name': 'postgresql',
          'db.operation.name': operation,
          'db.query.summary': summary,
          'aqm.connection.wait_ms': Math.round(1000 * waitMs) / 1000,
          ...(batch && { 'aqm.batch.size': batch.size }),
        },
        links: linksTo(batch),
      },
      trace.setSpan(ROOT_CONTEXT, parent),
    );
    for (const call of batch?.calls ?? []) call.linkTo(span);
    return new StatementSpan(span);
  }

  /** Ends the span of a successful statement. */
  answered(rows: number): void {
    this.#span.setAttribute('db.response.returned_rows', rows);
    this.#span.end();
  }

  /**
   * Ends the span of a failed statement. Records only the SQLSTATE or the type: PostgreSQL's
   * messages may quote values.
   */
  failed(error: unknown): void {
    const { code } = error as { readonly code?: unknown };
    const isSqlState = typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code);
    if (isSqlState) this.#span.setAttribute('db.response.status_code', code);
    endFailed(this.#span, isSqlState ? code : nameOf(error));
  }
}

/** The traced calls among the fetches that share a statement, and the number of all these fetches. */
export interface TracedBatch {
  readonly calls: readonly QueuedCall[];
  readonly size: number;
}

/** Returns the span to which the work for a batch belongs, or else that for the running call. */
function parentOf(batch: TracedBatch | undefined): Span | undefined {
  return batch ? batch.calls[0]?.call : activeSpan();
}

function linksTo(batch: TracedBatch | undefined) {
  return [...new Set(batch?.calls.map(({ call }) => call))].map((call) => ({ context: call.spanContext() }));
}

function endFailed(span: Span, type: string): void {
  span.setAttribute('error.type', type);
  span.setStatus({ code: SpanStatusCode.ERROR });
  span.end();
}

function nameOf(error: unknown): string {
  return String((error as { readonly name?: unknown }).name);
}

/**
 * Runs the write of hand-outs to the watermark in a span of its own: an answer waits for it. It belongs
 * to the running call, or to the calls of a batch as their statement does.
 * @param coins the number of coins that are recorded
 */
export function traceRecord(coins: number, batch: TracedBatch | undefined, write: () => Promise<void>): Promise<void> {
  const parent = tracer && parentOf(batch);
  if (!tracer || !parent) return write();
  const span = tracer.startSpan(
    'record hand-outs',
    { attributes: { 'aqm.coins': coins }, links: linksTo(batch) },
    trace.setSpan(ROOT_CONTEXT, parent),
  );
  return write().then(
    () => span.end(),
    (error: unknown) => {
      endFailed(span, nameOf(error));
      throw error;
    },
  );
}

/**
 * Adds to the span of the running call how many items its request had, and how many of them had each outcome, in the words of the
 * metrics.
 */
export function traceItems(outcomes: readonly (string | undefined)[]): void {
  const span = tracer && activeSpan();
  if (!span) return;
  span.setAttribute('aqm.items', outcomes.length);
  const counts = new Map<string, number>();
  for (const outcome of outcomes) if (outcome !== undefined) counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  for (const [outcome, number] of counts) span.setAttribute(`aqm.items.${outcome}`, number);
}

/** A call that waits to be batched, with the span of its wait. */
export class QueuedCall {
  readonly call: Span;
  readonly #wait: Span;

  private constructor(call: Span, wait: Span) {
    this.call = call;
    this.#wait = wait;
  }

  /** Starts the wait of the running call. Returns undefined if the call is not traced. */
  static begin(): QueuedCall | undefined {
    const call = tracer && activeSpan();
    if (!tracer || !call) return undefined;
    return new QueuedCall(call, tracer.startSpan('wait for a shared statement'));
  }

  /** Ends the wait with a link to the statement that serves the call. */
  linkTo(statement: Span): void {
    if (this.#wait.isRecording()) this.#wait.addLink({ context: statement.spanContext() });
    this.end();
  }

  /** Ends the wait. May be called more than once. */
  end(): void {
    if (this.#wait.isRecording()) this.#wait.end();
  }

  /** Runs work that serves only this call, in the call's context. */
  static resume<T>(queued: QueuedCall | undefined, work: () => T): T {
    return queued ? context.with(trace.setSpan(ROOT_CONTEXT, queued.call), work) : work();
  }
}

/**
 * Returns the trace and span id of the running call for a log line; nothing if the call is not
 * traced.
 */
export function traceIds(): Record<string, string> {
  // The span may have ended: the line about the call is written after its response.
  const span = tracer && trace.getSpan(context.active());
  if (!span) return {};
  const { traceId, spanId } = span.spanContext();
  return { trace_id: traceId, span_id: spanId };
}
