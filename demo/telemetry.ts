// What an application around the device library does so that its operations are seen: it registers an OpenTelemetry SDK.
import { setTimeout } from 'node:timers/promises';

/** What is not delivered by then is given up; in milliseconds. */
const STOP_PATIENCE_MS = 2000;

/**
 * Traces of the devices, if an OTEL_* variable names an exporter of traces or where to send them; else nothing is loaded.
 * @returns what to call at the end; it never fails
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
    await Promise.race([sdk.shutdown().catch(() => {}), setTimeout(STOP_PATIENCE_MS)]);
  };
}
