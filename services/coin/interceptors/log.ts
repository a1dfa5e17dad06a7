import { status } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { isServerFault } from '../rpc/status';
import type { CallObserver } from './intercept';

/**
 * Writes one line per call: method, code, duration in milliseconds. Server faults are logged at
 * `warn`, all else at `debug`.
 */
export function log(logger: Logger): CallObserver {
  return (method) => {
    const start = performance.now();
    return (outcome) => {
      const code: status = outcome.code ?? status.UNKNOWN;
      const level = isServerFault(code) ? 'warn' : 'debug';
      if (!logger.isLevelEnabled(level)) return;
      logger[level]({ method, code: status[code], durationMs: performance.now() - start }, 'call');
    };
  };
}
