import { status } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import type { Witness } from './intercept';

/** These mean that we are in trouble, not the caller. */
const OURS = new Set<status>([status.INTERNAL, status.UNKNOWN, status.UNAVAILABLE, status.DATA_LOSS]);

/** One line per call: method, code, duration in milliseconds. Failures that are ours at `warn`, the rest at `debug`. */
export function log(logger: Logger): Witness {
  return (method) => {
    const start = performance.now();
    return (sent) => {
      const code: status = sent.code ?? status.UNKNOWN;
      const level = OURS.has(code) ? 'warn' : 'debug';
      if (!logger.isLevelEnabled(level)) return;
      logger[level]({ method, code: status[code], durationMs: performance.now() - start }, 'call');
    };
  };
}
