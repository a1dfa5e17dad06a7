import { isNativeError } from 'node:util/types';
import pino, { type Logger } from 'pino';
import { traceIds } from './telemetry/tracing';

/** JSON lines on stderr, with the ids of the call's trace if it has one; stdout is for the one line that says "ready". */
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

/** What helps to find a fault. Drivers hang whole connections and row values on their errors; those stay out. */
function describeError(error: unknown): unknown {
  if (!isNativeError(error)) return { type: typeof error };
  const { name, message, stack, cause } = error;
  const { code } = error as { code?: unknown };
  return { name, code, message, stack, ...(cause === undefined ? {} : { cause: describeError(cause) }) };
}
