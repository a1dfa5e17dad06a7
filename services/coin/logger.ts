import cluster from 'node:cluster';
import { isNativeError } from 'node:util/types';
import pino, { type Logger } from 'pino';
import { LogOutput } from './log-output';
import { count } from './telemetry/metrics';
import { traceIds } from './telemetry/tracing';

/** The longest time that the end of the process waits for a slow or stuck reader of the log, in milliseconds. */
const FLUSH_TIMEOUT_MS = 1000;
/** The longest time that it waits for the kernel, such as for a disk that hangs, in milliseconds. */
const HANG_TIMEOUT_MS = 5000;
/** The interval at which the log is tried again after lines were lost, in milliseconds. */
const RETRY_MS = 5000;

/** The log of a process that must go on without it. */
export interface Log {
  readonly logger: Logger;
  /**
   * Writes the lines that still wait, for at most six seconds. Must precede the end of the process.
   * @returns false if the kernel does not answer a write: the process cannot exit before it does
   */
  flush(): Promise<boolean>;
}

/** Creates a logger that writes JSON lines to stderr, with the trace ids of the call if it has a trace. Stdout is for the "ready" line. */
export function createLogger(level: string): Logger {
  return openLog(level).logger;
}

/** Opens the log of the process, which is written to stderr; see `createLogger`. */
export function openLog(level: string): Log {
  // Reading this property makes a pipe or socket non-blocking. A write to a full one that blocks would hold a thread,
  // and with it the end of the process.
  void process.stderr;
  const output = new LogOutput(2, { retryMs: RETRY_MS, onLost: count.logLinesLost, lossReport });
  process.once('exit', () => output.writeLastLines());
  const logger = pino(
    {
      level,
      base: undefined,
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { err: describeError },
      mixin: traceIds,
    },
    output,
  );
  return { logger, flush: () => output.flush(FLUSH_TIMEOUT_MS, HANG_TIMEOUT_MS) };
}

function lossReport(lines: number): string {
  const report = {
    level: pino.levels.values.warn,
    time: new Date().toISOString(),
    ...(cluster.isWorker && { worker: process.pid }),
    lines,
    msg: 'lines of the log were lost before this one: its disk was full, or its reader was gone or too slow',
  };
  return `${JSON.stringify(report)}\n`;
}

/** Returns the fields of an error that help to find a fault. Drivers attach whole connections and row values to their errors; those are omitted. */
export function describeError(error: unknown): unknown {
  if (!isNativeError(error)) return { type: typeof error };
  const { name, stack, cause } = error;
  const { code } = error as { code?: unknown };
  return {
    name,
    code,
    message: messageOf(error),
    stack,
    ...(cause === undefined ? {} : { cause: describeError(cause) }),
  };
}

/** Returns the message of an error. An AggregateError, as for a name with several addresses, has none of its own. */
function messageOf(error: Error): string {
  const { errors } = error as { errors?: unknown };
  if (error.message !== '' || !Array.isArray(errors)) return error.message;
  return errors.map((each) => (isNativeError(each) ? each.message : String(each))).join('; ');
}
