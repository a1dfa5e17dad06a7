import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { Jaeger } from './jaeger';
import { IS_FULL_RUN } from './tier';
import { type TraceCollector, type TraceSpan, tracesTo } from './trace-collector';

/** Starts a real Jaeger in a full run. Elsewhere it takes OTLP itself, so that the tests need no Go. */
export function startTraceCollector(): Promise<TraceCollector> {
  return IS_FULL_RUN ? Jaeger.start() : OtlpCollector.start();
}

/** The part of an ExportTraceServiceRequest in JSON that is read here (opentelemetry-proto, collector/trace/v1). */
interface ExportRequest {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] };
    readonly scopeSpans: readonly { readonly spans: readonly OtlpSpan[] }[];
  }[];
}

interface OtlpSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
  readonly attributes: readonly Attribute[];
  readonly links?: readonly { readonly spanId: string }[];
  readonly status: { readonly code?: number; readonly message?: string };
}

interface Attribute {
  readonly key: string;
  /** One field, named by the type of the value. */
  readonly value: Readonly<Record<string, unknown>>;
}

const KINDS = ['unspecified', 'internal', 'server', 'client', 'producer', 'consumer'];
const STATUS_ERROR = 2;

/** Takes OTLP over HTTP as JSON, and keeps all spans in memory. */
class OtlpCollector implements TraceCollector {
  readonly env: NodeJS.ProcessEnv;
  readonly #server: Server;
  readonly #spans: TraceSpan[] = [];
  readonly #processes: { readonly service: string; readonly resource: object }[] = [];

  private constructor(server: Server) {
    this.#server = server;
    const { port } = server.address() as AddressInfo;
    this.env = tracesTo(`http://127.0.0.1:${port}/v1/traces`, 'http/json');
    server.on('request', (request: IncomingMessage, response) => {
      json(request).then(
        (body) => {
          this.#take(body as ExportRequest);
          response.setHeader('content-type', 'application/json').end('{}');
        },
        () => response.writeHead(400).end(),
      );
    });
  }

  static async start(): Promise<OtlpCollector> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new OtlpCollector(server);
  }

  async traces(service: string): Promise<TraceSpan[][]> {
    const ids = new Set(this.#spans.filter((span) => span.service === service).map(({ traceId }) => traceId));
    return [...ids].map((id) => this.#spans.filter(({ traceId }) => traceId === id));
  }

  async processes(service: string): Promise<unknown[]> {
    return this.#processes.filter((process) => process.service === service);
  }

  async stop(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #take({ resourceSpans }: ExportRequest): void {
    for (const { resource, scopeSpans } of resourceSpans) {
      const attributes = valuesOf(resource.attributes);
      const service = String(attributes['service.name']);
      this.#processes.push({ service, resource: attributes });
      for (const span of scopeSpans.flatMap(({ spans }) => spans)) {
        this.#spans.push({
          traceId: span.traceId,
          spanId: span.spanId,
          name: span.name,
          service,
          parent: span.parentSpanId || undefined,
          links: (span.links ?? []).map(({ spanId }) => spanId),
          attributes: { ...valuesOf(span.attributes), ...statusOf(span), 'span.kind': KINDS[span.kind] },
        });
      }
    }
  }
}

function valuesOf(attributes: readonly Attribute[]): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));
}

function statusOf({ status: { code, message } }: OtlpSpan): Record<string, unknown> {
  return {
    ...(code === STATUS_ERROR && { error: true, 'otel.status_code': 'ERROR' }),
    ...(message && { 'otel.status_description': message }),
  };
}
