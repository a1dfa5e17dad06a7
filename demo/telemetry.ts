// Shows how an application enables the telemetry of the device library: it registers an OpenTelemetry SDK.
import { setTimeout } from 'node:timers/promises';

/** The flush timeout at the end, in milliseconds. */
const FLUSH_TIMEOUT_MS = 2000;

/**
 * Starts tracing of the devices if an OTEL_* variable names a trace exporter or endpoint. Otherwise no SDK is loaded.
 * @returns a function that flushes and stops; it never fails
 */
export async function startTelemetry(env: NodeJS.ProcessEnv): Promise<() => Promise<void>> {
  const exporter = env.OTEL_TRACES_EXPORTER ?? '';
  const endpoint = env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? env.OTEL_EXPORTER_OTLP_ENDPOINT ?? '';
  if (exporter === 'none' || (exporter === '' && endpoint === '')) return async () => {};
  const { NodeSDK } = await import('@opentelemetry/sdk-node');
  const sdk = new NodeSDK({
    serviceName: env.OTEL_SERVICE_NAME || 'aqm-demo',
    autoDetectResources: false,
    metricReaders: [],
    logRecordProcessors: [],
  });
  sdk.start();
  return async () => {
    await Promise.race([sdk.shutdown().catch(() => {}), setTimeout(FLUSH_TIMEOUT_MS)]);
  };
}
