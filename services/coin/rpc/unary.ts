import { type handleUnaryCall, type ServerUnaryCall, status } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import type { CallsInFlight } from '../calls-in-flight';
import { Deadline } from '../deadline';
import { DomainError } from '../errors';
import { type Caller, callerOf } from '../identity/caller';
import { count } from '../telemetry/metrics';
import { traceCall } from '../telemetry/tracing';
import { isOurs, toStatus } from './status';

/** One method: a decoded request, who asks and for how long, to an answer or a domain error; an async function. */
export type Method<Request, Response> = (request: Request, caller: Caller, deadline: Deadline) => Promise<Response>;

export interface UnaryOptions {
  readonly logger: Logger;
  readonly now: () => Date;
  readonly calls: Pick<CallsInFlight, 'enter' | 'leave'>;
}

/**
 * Makes a method a gRPC handler. Everything thrown becomes a rich status here; what is not a domain error is
 * logged whole and answered as INTERNAL.
 */
export function unary<Request, Response>(
  { logger, now, calls }: UnaryOptions,
  method: Method<Request, Response>,
): handleUnaryCall<Request, Response> {
  return (call: ServerUnaryCall<Request, Response>, callback) => {
    const path = call.getPath();
    traceCall(path, call.metadata, (ended) => {
      const fail = (error: unknown): void => {
        if (!(error instanceof DomainError)) logger.error({ err: error, method: path }, 'unexpected error');
        const failure = toStatus(error);
        count.refused(failure.reason);
        ended?.({ code: status[failure.code], reason: failure.reason, isOurs: isOurs(failure.code) });
        callback(failure);
      };
      const deadline = new Deadline(Number(call.getDeadline()), now);
      // Comes for a deadline as well as for a caller that gave up or is gone; and, late, after every answer.
      call.on('cancelled', () => deadline.end());
      let caller: Caller;
      try {
        deadline.check();
        // A request that could not be decoded arrives as the error that says so (rpc/decode.ts).
        if (call.request instanceof DomainError) throw call.request;
        caller = callerOf(call);
        calls.enter();
      } catch (error) {
        fail(error);
        return;
      }
      method(call.request, caller, deadline).then(
        (response) => {
          calls.leave();
          ended?.({ code: 'OK' });
          callback(null, response);
        },
        (error: unknown) => {
          calls.leave();
          fail(error);
        },
      );
    });
  };
}
