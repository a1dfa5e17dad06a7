import pino, { type Logger } from 'pino';

/** JSON lines on stderr; stdout is for the one line that says "ready". */
export function createLogger(level: string): Logger {
  return pino({ level, base: undefined, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination(2));
}
