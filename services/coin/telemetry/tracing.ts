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

/** undefined: tracing is off, and costs a comparison. */
let tracer: Tracer | undefined;

/** Of the calls that belong to no trace yet, how many begin one, from 0 to 1. */
let share = 1;
/** Headers that a caller's trace comes in. */
let headers: readonly string[] = [];

/** From now on calls and their statements have spans, of the tracer provider that is registered. */
export function turnTracingOn(shareOfNew = 1): void {
  tracer = trace.getTracer('aqm.coin');
  share = shareOfNew;
  headers = propagation.fields().filter((name) => name !== 'baggage');
}

/** gRPC metadata. */
interface Carrier {
  get(key: string): readonly (string | Buffer)[];
  toJSON(): Record<string, unknown>;
}

const METADATA: TextMapGetter<Carrier> = {
  get: (metadata, key) => metadata.get(key).filter((value) => typeof value === 'string'),
  keys: (metadata) => Object.keys(metadata.toJSON()),
};

/** What became of a call. */
export interface CallEnd {
  /** Name of its gRPC code. */
  readonly code: string;
  /** Of its ErrorInfo. */
  readonly reason?: string;
  /** Whether it is our fault, and not the caller's. */
  readonly isServerFault?: boolean;
}

/**
 * Runs one call, in a span that belongs to the caller's trace. `work` gets what to call at the end; undefined when the call is
 * not traced.
 *
 * A call that the sampler leaves out goes on without any context, so nothing below it makes a span either: that is what makes
 * sampling cheap. Baggage of the caller goes no further.
 */
export function traceCall(
  path: string,
  metadata: Carrier,
  work: (ended: ((end: CallEnd) => void) | undefined) => void,
): void {
  if (!tracer) {
    work(undefined);
    return;
  }
  // Decided here, a call that is left out costs nothing; the SDK makes a span before it decides, and the garbage of it.
  if (Math.random() >= share && !headers.some((name) => metadata.get(name).length > 0)) {
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
  span.setAttributes({ 'rpc.system.name': 'grpc', 'rpc.method': method });
  const ended = ({ code, reason, isServerFault }: CallEnd): void => {
    span.setAttribute('rpc.response.status_code', code);
    if (reason !== undefined) span.setAttributes({ 'error.type': code, 'aqm.reason': reason });
    if (isServerFault) span.setStatus({ code: SpanStatusCode.ERROR });
    span.end();
  };
  context.with(trace.setSpan(ROOT_CONTEXT, span), work, undefined, ended);
}

/** The span that what runs now belongs to, if it is recorded. */
function activeSpan(): Span | undefined {
  const span = trace.getSpan(context.active());
  return span?.isRecording() ? span : undefined;
}

/** A statement under way. */
export class StatementSpan {
  readonly #span: Span;

  private constructor(span: Span) {
    this.#span = span;
  }

  /**
   * Begins one for a statement that the running call sends, or that `sharing` send together: it belongs to the trace of the first of
   * them, with links to all. undefined when none of them is traced. Its text holds no values; they are never in a span.
   */
  static begin(text: string, waitMs: number, sharingOf?: () => readonly QueuedCall[]): StatementSpan | undefined {
    if (!tracer) return undefined;
    const sharing = sharingOf?.();
    const parent = sharing ? sharing[0]?.call : activeSpan();
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
        },
        links: [...new Set(sharing?.map(({ call }) => call))].map((call) => ({ context: call.spanContext() })),
      },
      trace.setSpan(ROOT_CONTEXT, parent),
    );
    for (const call of sharing ?? []) call.takenBy(span);
    return new StatementSpan(span);
  }

  answered(rows: number): void {
    this.#span.setAttribute('db.response.returned_rows', rows);
    this.#span.end();
  }

  /** Only the SQLSTATE or the type is told: messages of PostgreSQL may quote values. */
  failed(error: unknown): void {
    const { code, name } = error as { readonly code?: unknown; readonly name?: unknown };
    const isSqlState = typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code);
    if (isSqlState) this.#span.setAttribute('db.response.status_code', code);
    this.#span.setAttribute('error.type', isSqlState ? code : String(name));
    this.#span.setStatus({ code: SpanStatusCode.ERROR });
    this.#span.end();
  }
}

/** A call that waits for a statement that it shares with others. */
export class QueuedCall {
  readonly call: Span;
  readonly #wait: Span;

  private constructor(call: Span, wait: Span) {
    this.call = call;
    this.#wait = wait;
  }

  /** The running call begins to wait. undefined when it is not traced. */
  static begin(): QueuedCall | undefined {
    const call = tracer && activeSpan();
    if (!tracer || !call) return undefined;
    return new QueuedCall(call, tracer.startSpan('wait for a shared statement'));
  }

  /** Leads from the call to the statement. */
  takenBy(statement: Span): void {
    if (this.#wait.isRecording()) this.#wait.addLink({ context: statement.spanContext() });
    this.end();
  }

  /** It waits no longer. May be called again. */
  end(): void {
    if (this.#wait.isRecording()) this.#wait.end();
  }

  /** Runs what is done for this call alone. */
  static resume<T>(queued: QueuedCall | undefined, work: () => T): T {
    return queued ? context.with(trace.setSpan(ROOT_CONTEXT, queued.call), work) : work();
  }
}

/** Of the running call, for each line of the log; nothing when it is not traced. */
export function traceIds(): Record<string, string> {
  // Ended or not: the line about the call is written when it was answered.
  const span = tracer && trace.getSpan(context.active());
  if (!span) return {};
  const { traceId, spanId } = span.spanContext();
  return { trace_id: traceId, span_id: spanId };
}
