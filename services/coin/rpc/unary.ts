import { type handleUnaryCall, type ServerUnaryCall, status } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { Deadline } from '../deadline';
import { CoinServiceError } from '../errors';
import { type Caller, callerOf } from '../identity/caller';
import { count } from '../telemetry/metrics';
import { traceCall } from '../telemetry/tracing';
import { isOurs, toStatus } from './status';

/** One method: a decoded request, who asks and for how long, to an answer or a thrown domain error. */
export type Method<Request, Response> = (request: Request, caller: Caller, deadline: Deadline) => Promise<Response>;

export interface UnaryOptions {
  readonly logger: Logger;
  readonly now: () => Date;
  /** Runs the work of a call, or refuses to. */
  readonly admit: <T>(work: () => Promise<T>) => Promise<T>;
}

/**
 * Makes a method a gRPC handler. Everything thrown becomes a rich status here; what is not a domain error is
 * logged whole and answered as INTERNAL.
 */
export function unary<Request, Response>(
  { logger, now, admit }: UnaryOptions,
  method: Method<Request, Response>,
): handleUnaryCall<Request, Response> {
  return (call: ServerUnaryCall<Request, Response>, callback) => {
    const path = call.getPath();
    traceCall(path, call.metadata, (ended) => {
      answer(call).then(
        (response) => {
          ended?.({ code: 'OK' });
          callback(null, response);
        },
        (error: unknown) => {
          if (!(error instanceof CoinServiceError)) logger.error({ err: error, method: path }, 'unexpected error');
          const failure = toStatus(error);
          count.refused(failure.reason);
          ended?.({ code: status[failure.code], reason: failure.reason, isOurs: isOurs(failure.code) });
          callback(failure);
        },
      );
    });
  };

  async function answer(call: ServerUnaryCall<Request, Response>): Promise<Response> {
    const deadline = new Deadline(Number(call.getDeadline()), now);
    // Comes for a deadline as well as for a caller that gave up or is gone; and, late, after every answer.
    call.on('cancelled', () => deadline.end());
    deadline.check();
    // A request that could not be decoded arrives as the error that says so (rpc/decode.ts).
    if (call.request instanceof CoinServiceError) throw call.request;
    return admit(() => method(call.request, callerOf(call), deadline));
  }
}
