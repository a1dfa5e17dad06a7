import { hostname } from 'node:os';
import { setTimeout } from 'node:timers/promises';
import { DiagLogLevel, diag } from '@opentelemetry/api';
import type { Logger } from 'pino';
import { DEFAULT_METRICS_PORT, MetricsServer } from './metrics-server';
import { enableTracing } from './tracing';

/**
 * Flush timeout at shutdown, in milliseconds. An unreachable collector must not delay the exit of
 * the process.
 */
const FLUSH_TIMEOUT_MS = 2000;
/**
 * A repeated warning, such as that of an unreachable collector, is logged at most once in this
 * time; in milliseconds.
 */
const REPEAT_MS = 300_000;
/** Maximum number of distinct warnings that are remembered. */
const MAX_KINDS = 100;

export interface Telemetry {
  readonly hasMetrics: boolean;
  /**
   * Interval at which values that are costly to read may be read: OTEL_METRIC_EXPORT_INTERVAL, in
   * milliseconds.
   */
  readonly intervalMs: number;
  /** The server of the metrics port; undefined if OTEL_METRICS_EXPORTER does not name `prometheus`. */
  readonly metricsServer: MetricsServer | undefined;
  /** Exports what is pending, within 2 s. Never rejects. */
  stop(): Promise<void>;
}

const DEFAULT_INTERVAL_MS = 60_000;
const NONE: Telemetry = {
  hasMetrics: false,
  intervalMs: DEFAULT_INTERVAL_MS,
  metricsServer: undefined,
  stop: async () => {},
};

/**
 * Returns the signals that the environment enables. By default the SDK would export everything to
 * localhost.
 */
export function signalsOf(env: NodeJS.ProcessEnv): { readonly traces: boolean; readonly metrics: boolean } {
  const isOn = (signal: 'TRACES' | 'METRICS') => {
    const exporter = env[`OTEL_${signal}_EXPORTER`]?.trim();
    if (exporter) return exporter !== 'none';
    return Boolean(env.OTEL_EXPORTER_OTLP_ENDPOINT || env[`OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`]);
  };
  if (env.OTEL_SDK_DISABLED?.trim().toLowerCase() === 'true') return { traces: false, metrics: false };
  return { traces: isOn('TRACES'), metrics: isOn('METRICS') };
}

/**
 * Returns the ratio of the sampler parentbased_traceidratio, from 0 to 1. Other samplers are left
 * to the SDK.
 */
function ratioOfNewTraces({
  OTEL_TRACES_SAMPLER: sampler,
  OTEL_TRACES_SAMPLER_ARG: argument,
}: NodeJS.ProcessEnv): number {
  const ratio = Number(argument || 1);
  return sampler?.trim() === 'parentbased_traceidratio' && ratio >= 0 && ratio < 1 ? ratio : 1;
}

/** The variable by which a worker process knows the metrics port of the first one. */
const FIRST_PORT = 'METRICS_PORT_OF_FIRST_WORKER';

/**
 * Returns the setting that gives each worker process its own metrics port: the configured one plus
 * `index`.
 */
export function metricsPortOf(env: NodeJS.ProcessEnv, index: number): NodeJS.ProcessEnv {
  const first = Number(env.OTEL_EXPORTER_PROMETHEUS_PORT || DEFAULT_METRICS_PORT);
  return { OTEL_EXPORTER_PROMETHEUS_PORT: String(first + index), [FIRST_PORT]: String(first) };
}

/** Returns the metrics ports of the other worker processes of this service. */
export function metricsPortsOfOthers(env: NodeJS.ProcessEnv, workers: number): number[] {
  const first = Number(env[FIRST_PORT]);
  if (!first) return [];
  return Array.from({ length: workers }, (_, index) => first + index).filter(
    (port) => String(port) !== env.OTEL_EXPORTER_PROMETHEUS_PORT,
  );
}

/** Returns true if the metrics are served for Prometheus. */
function isScraped({ OTEL_METRICS_EXPORTER: exporters = '' }: NodeJS.ProcessEnv): boolean {
  return exporters.split(',').some((name) => name.trim() === 'prometheus');
}

/**
 * Runs `create`, in which the SDK makes its exporters from the environment. It keeps the Prometheus exporter to itself,
 * so the moment at which that starts its server is where ours takes its place.
 */
async function withMetricsServer<T>(server: MetricsServer | undefined, create: () => T): Promise<T> {
  if (!server) return create();
  const { PrometheusExporter } = await import('@opentelemetry/exporter-prometheus');
  const { startServer } = PrometheusExporter.prototype;
  PrometheusExporter.prototype.startServer = function () {
    return server.listen(this);
  };
  try {
    return create();
  } finally {
    PrometheusExporter.prototype.startServer = startServer;
  }
}

/**
 * Starts the OpenTelemetry SDK if an OTEL_* variable names an endpoint or an exporter; otherwise
 * the SDK is not even loaded. It is configured by those variables alone (docs/observability.md),
 * which the SDK reads from `process.env`. Failures, such as an unreachable collector or a metrics
 * port in use, are logged as warnings.
 */
export async function startTelemetry(env: NodeJS.ProcessEnv, log: Logger, version: string): Promise<Telemetry> {
  const { traces, metrics } = signalsOf(env);
  const ratio = ratioOfNewTraces(env);
  // traceCall samples new traces before the SDK sees them, so the SDK must record all of them.
  if (traces && ratio < 1) env.OTEL_TRACES_SAMPLER = 'parentbased_always_on';
  if (!traces && !metrics) return NONE;
  const [{ NodeSDK }, { envDetector }] = await Promise.all([
    import('@opentelemetry/sdk-node'),
    import('@opentelemetry/resources'),
  ]);
  const warnings = new Warnings(log);
  const metricsServer = metrics && isScraped(env) ? new MetricsServer(env) : undefined;
  const sdk = await withMetricsServer(
    metricsServer,
    () =>
      new NodeSDK({
        // Omits the process detectors: command line and user name are sensitive.
        resourceDetectors: [{ detect: () => ({ attributes: defaultAttributes(version) }) }, envDetector],
        // Logs are written to stderr, not exported.
        logRecordProcessors: [],
        ...(!traces && { spanProcessors: [] }),
        ...(!metrics && { metricReaders: [] }),
      }),
  );
  // Must follow the construction of the SDK, which sets a logger for stdout if OTEL_LOG_LEVEL is
  // set.
  diag.setLogger(warnings, { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true });
  sdk.start();
  if (traces) enableTracing(ratio);
  log.info({ traces, metrics }, 'telemetry is on');
  return {
    hasMetrics: metrics,
    intervalMs: Number(env.OTEL_METRIC_EXPORT_INTERVAL) || DEFAULT_INTERVAL_MS,
    metricsServer,
    stop: async () => {
      metricsServer?.close();
      // Rejects if the collector is unreachable.
      const stopped = sdk.shutdown().catch((error: unknown) => warnings.warn(String(error)));
      await Promise.race([stopped, setTimeout(FLUSH_TIMEOUT_MS)]);
    },
  };
}

/**
 * Returns the default resource attributes. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override
 * them.
 */
function defaultAttributes(version: string) {
  return {
    'service.name': 'aqm-coin',
    'service.version': version,
    'service.instance.id': `${hostname()}:${process.pid}`,
  };
}

/** Logs the SDK's diagnostics. A repeated one is logged once in REPEAT_MS. */
class Warnings {
  readonly #log: Logger;
  readonly #lastMs = new Map<string, number>();

  constructor(log: Logger) {
    this.#log = log;
  }

  error(message: unknown): void {
    this.warn(message);
  }

  warn(message: unknown): void {
    const text = sentenceOf(message).slice(0, 500);
    // Some messages end with a number that differs each time, so only their beginning is compared.
    const kind = text.slice(0, 60);
    const now = performance.now();
    if (now - (this.#lastMs.get(kind) ?? Number.NEGATIVE_INFINITY) < REPEAT_MS) return;
    if (this.#lastMs.size > MAX_KINDS) this.#lastMs.clear();
    this.#lastMs.set(kind, now);
    this.#log.warn({ detail: text }, 'telemetry');
  }

  info(): void {}
  debug(): void {}
  verbose(): void {}
}

/** Extracts the sentence of an exporter's error, which is JSON with a stack or plain text. */
function sentenceOf(message: unknown): string {
  const text = message instanceof Error ? message.message : String(message);
  try {
    const { message: sentence }: { message?: unknown } = JSON.parse(text);
    return String(sentence ?? text);
  } catch {
    return text.replace(/^Error: /, '');
  }
}
