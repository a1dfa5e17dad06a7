import { hostname } from 'node:os';
import { setTimeout } from 'node:timers/promises';
import { DiagLogLevel, diag } from '@opentelemetry/api';
import type { Logger } from 'pino';
import { turnTracingOn } from './tracing';

/** What is not delivered by then is given up, so that no collector holds up the end of the process; in milliseconds. */
const STOP_PATIENCE_MS = 2000;
/** A sentence that comes again within this time is not logged again, such as that of a collector that is away; in milliseconds. */
const REPEAT_MS = 300_000;
const MAX_KINDS = 100;

export interface Telemetry {
  readonly hasMetrics: boolean;
  /** How often what is costly to know may be looked at: OTEL_METRIC_EXPORT_INTERVAL, in milliseconds. */
  readonly intervalMs: number;
  /** Delivers what is left, within 2 s. Never fails. */
  stop(): Promise<void>;
}

const DEFAULT_INTERVAL_MS = 60_000;
const NONE: Telemetry = { hasMetrics: false, intervalMs: DEFAULT_INTERVAL_MS, stop: async () => {} };

/** Which signals the environment asks for. The SDK would export everything to localhost where nothing is said. */
export function signalsOf(env: NodeJS.ProcessEnv): { readonly traces: boolean; readonly metrics: boolean } {
  const isOn = (signal: 'TRACES' | 'METRICS') => {
    const exporter = env[`OTEL_${signal}_EXPORTER`]?.trim();
    if (exporter) return exporter !== 'none';
    return Boolean(env.OTEL_EXPORTER_OTLP_ENDPOINT || env[`OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`]);
  };
  if (env.OTEL_SDK_DISABLED?.trim().toLowerCase() === 'true') return { traces: false, metrics: false };
  return { traces: isOn('TRACES'), metrics: isOn('METRICS') };
}

/** Of parentbased_traceidratio. The other samplers are left to the SDK. */
function shareOfNewTraces({
  OTEL_TRACES_SAMPLER: sampler,
  OTEL_TRACES_SAMPLER_ARG: argument,
}: NodeJS.ProcessEnv): number {
  const share = Number(argument || 1);
  return sampler?.trim() === 'parentbased_traceidratio' && share >= 0 && share < 1 ? share : 1;
}

const DEFAULT_METRICS_PORT = 9464;

/** For one of several processes of a service, so that each has a metrics port of its own: the named one, the next, and so on. */
export function metricsPortOf(env: NodeJS.ProcessEnv, place: number): NodeJS.ProcessEnv {
  const first = Number(env.OTEL_EXPORTER_PROMETHEUS_PORT || DEFAULT_METRICS_PORT);
  return { OTEL_EXPORTER_PROMETHEUS_PORT: String(first + place) };
}

/**
 * Starts the OpenTelemetry SDK if an OTEL_* variable names an endpoint or an exporter; else it is not even loaded. Configured by
 * those variables alone (docs/observability.md), which it reads from the process itself. What goes wrong with it is a warning in
 * the log: a collector that is away, a metrics port that is taken.
 */
export async function startTelemetry(env: NodeJS.ProcessEnv, log: Logger): Promise<Telemetry> {
  const { traces, metrics } = signalsOf(env);
  const share = shareOfNewTraces(env);
  // Whoever begins a trace here has been chosen already; see traceCall.
  if (traces && share < 1) env.OTEL_TRACES_SAMPLER = 'parentbased_always_on';
  if (!traces && !metrics) return NONE;
  const [{ NodeSDK }, { envDetector }] = await Promise.all([
    import('@opentelemetry/sdk-node'),
    import('@opentelemetry/resources'),
  ]);
  const warnings = new Warnings(log);
  const sdk = new NodeSDK({
    // Of what the SDK would find out by itself, command line and user name are nobody's business.
    resourceDetectors: [{ detect: () => ({ attributes: ourselves() }) }, envDetector],
    // Lines of the log go to stderr.
    logRecordProcessors: [],
    ...(!traces && { spanProcessors: [] }),
    ...(!metrics && { metricReaders: [] }),
  });
  // After the SDK, which would have sent it to stdout where OTEL_LOG_LEVEL is set.
  diag.setLogger(warnings, { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true });
  sdk.start();
  if (traces) turnTracingOn(share);
  log.info({ traces, metrics }, 'telemetry is on');
  return {
    hasMetrics: metrics,
    intervalMs: Number(env.OTEL_METRIC_EXPORT_INTERVAL) || DEFAULT_INTERVAL_MS,
    stop: async () => {
      // Rejects when the collector cannot be reached.
      const stopped = sdk.shutdown().catch((error: unknown) => warnings.warn(String(error)));
      await Promise.race([stopped, setTimeout(STOP_PATIENCE_MS)]);
    },
  };
}

/** What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES may say better. */
function ourselves() {
  return { 'service.name': 'aqm-coin', 'service.instance.id': `${hostname()}:${process.pid}` };
}

/** Where the SDK says what is wrong: into the log, a sentence that comes again and again once in a while only. */
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
    // Some have a number at their end that is another one each time.
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

/** An exporter's error comes as JSON with a stack, or as text. */
function sentenceOf(message: unknown): string {
  const text = message instanceof Error ? message.message : String(message);
  try {
    const { message: sentence }: { message?: unknown } = JSON.parse(text);
    return String(sentence ?? text);
  } catch {
    return text.replace(/^Error: /, '');
  }
}
