import { ServerInterceptingCall, type ServerInterceptor, status } from '@grpc/grpc-js';
import type { Logger } from 'pino';

/** These mean that we are in trouble, not the caller. */
const OURS = new Set<status>([status.INTERNAL, status.UNKNOWN, status.UNAVAILABLE, status.DATA_LOSS]);

/** One line per call: method, code, duration in milliseconds. Failures that are ours at `warn`, the rest at `debug`. */
export function log(logger: Logger): ServerInterceptor {
  return (method, call) => {
    const start = process.hrtime.bigint();
    return new ServerInterceptingCall(call, {
      sendStatus: (sent, next) => {
        const code = sent.code ?? status.UNKNOWN;
        const durationMs = Number(process.hrtime.bigint() - start) / 1e6;
        logger[OURS.has(code) ? 'warn' : 'debug']({ method: method.path, code: status[code], durationMs }, 'call');
        next(sent);
      },
    });
  };
}
