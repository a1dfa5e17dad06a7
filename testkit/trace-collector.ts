export interface TraceSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly name: string;
  /** The name of the process that made it. */
  readonly service: string;
  /** A span id; undefined at the root of a trace. */
  readonly parent: string | undefined;
  /** The span ids of its links. */
  readonly links: readonly string[];
  /** With `span.kind`, and with `error` and `otel.status_code` if it failed, as Jaeger has them. */
  readonly attributes: Readonly<Record<string, unknown>>;
}

/** Receives the spans of services and devices. */
export interface TraceCollector {
  /** The environment of a process whose spans arrive at once. */
  readonly env: NodeJS.ProcessEnv;
  /** Returns the spans of each trace in which the service has one. */
  traces(service: string): Promise<TraceSpan[][]>;
  /** Returns what is known of the processes in these traces. */
  processes(service: string): Promise<unknown[]>;
  stop(): Promise<void>;
}

/** Returns the environment of a process that sends its traces by OTLP to an endpoint. */
export function tracesTo(endpoint: string, protocol: 'grpc' | 'http/json'): NodeJS.ProcessEnv {
  return {
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: endpoint,
    OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
    OTEL_BSP_SCHEDULE_DELAY: '100',
  };
}
