import { status } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { isOurs } from '../rpc/status';
import type { CallObserver } from './intercept';

/** One line per call: method, code, duration in milliseconds. Failures that are ours at `warn`, the rest at `debug`. */
export function log(logger: Logger): CallObserver {
  return (method) => {
    const start = performance.now();
    return (sent) => {
      const code: status = sent.code ?? status.UNKNOWN;
      const level = isOurs(code) ? 'warn' : 'debug';
      if (!logger.isLevelEnabled(level)) return;
      logger[level]({ method, code: status[code], durationMs: performance.now() - start }, 'call');
    };
  };
}
