import { isNativeError } from 'node:util/types';
import pino, { type Logger } from 'pino';
import { traceIds } from './telemetry/tracing';

/** Creates a logger that writes JSON lines to stderr, with the trace ids of the call if it has a trace. Stdout is for the "ready" line. */
export function createLogger(level: string): Logger {
  return pino(
    {
      level,
      base: undefined,
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { err: describeError },
      mixin: traceIds,
    },
    pino.destination(2),
  );
}

/** Returns the fields of an error that help to find a fault. Drivers attach whole connections and row values to their errors; those are omitted. */
function describeError(error: unknown): unknown {
  if (!isNativeError(error)) return { type: typeof error };
  const { name, message, stack, cause } = error;
  const { code } = error as { code?: unknown };
  return { name, code, message, stack, ...(cause === undefined ? {} : { cause: describeError(cause) }) };
}
