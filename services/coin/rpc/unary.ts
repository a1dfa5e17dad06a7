import { type handleUnaryCall, type ServerUnaryCall, status } from '@grpc/grpc-js';
import { callIdOf } from '../call-id';
import type { CallsInFlight } from '../calls-in-flight';
import { Deadline } from '../deadline';
import { DomainError } from '../errors';
import { type Caller, callerOf } from '../identity/caller';
import type { CallLimits } from '../limits/call-limits';
import { traceCall } from '../telemetry/tracing';
import { isServerFault, toStatus } from './status';

/**
 * Implements one RPC method: returns the response, or rejects with a domain error. Must be async,
 * so that it never throws directly.
 */
export type Method<Request, Response> = (
  request: Request,
  caller: Caller,
  deadline: Deadline,
  callId: string,
) => Promise<Response>;

export interface UnaryOptions {
  readonly now: () => Date;
  readonly calls: Pick<CallsInFlight, 'enter' | 'leave'>;
  /** Undefined: the calls of one caller are not limited. */
  readonly limits?: CallLimits | undefined;
  /** The maximum number of calls of one caller in flight. */
  readonly maxPerCaller: number;
}

/**
 * Turns a method into a gRPC handler. Every error becomes a status with details here. An error that
 * is not a domain error is answered as INTERNAL; interceptors/log.ts logs it completely.
 */
export function unary<Request, Response>(
  { now, calls, limits, maxPerCaller }: UnaryOptions,
  method: Method<Request, Response>,
): handleUnaryCall<Request, Response> {
  const enter = (userId: string): void => {
    calls.enter();
    try {
      limits?.enter(userId, maxPerCaller);
    } catch (error) {
      calls.leave();
      throw error;
    }
  };
  const leave = (userId: string): void => {
    calls.leave();
    limits?.leave(userId);
  };
  return (call: ServerUnaryCall<Request, Response>, callback) => {
    const callId = callIdOf(call);
    traceCall(call.getPath(), callId, call.metadata, (onEnd) => {
      const fail = (error: unknown): void => {
        const failure = toStatus(error);
        onEnd?.({
          code: status[failure.code],
          reason: failure.reason,
          isServerFault: isServerFault(failure.code),
        });
        callback(failure);
      };
      const deadline = new Deadline(Number(call.getDeadline()), now);
      // Emitted when the deadline passes, and when the caller cancels or disconnects; also, late,
      // after every response.
      call.on('cancelled', () => deadline.end());
      let caller: Caller;
      try {
        deadline.check();
        caller = callerOf(call);
        // A request that could not be decoded arrives as the error (rpc/decode.ts).
        if (call.request instanceof DomainError) {
          limits?.chargeMalformed(caller.userId);
          throw call.request;
        }
        enter(caller.userId);
      } catch (error) {
        fail(error);
        return;
      }
      method(call.request, caller, deadline, callId).then(
        (response) => {
          leave(caller.userId);
          onEnd?.({ code: 'OK' });
          callback(null, response);
        },
        (error: unknown) => {
          leave(caller.userId);
          fail(error);
        },
      );
    });
  };
}
