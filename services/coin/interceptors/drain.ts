import { ServerInterceptingCall, type ServerInterceptor } from '@grpc/grpc-js';
import { ShuttingDownError } from '../errors';
import { toStatus } from '../rpc/status';

/** Refuses calls that arrive after the server began to stop; those that came before run to their end. */
export function drain(isDraining: () => boolean): ServerInterceptor {
  return (_method, call) => {
    if (!isDraining()) return new ServerInterceptingCall(call);
    return new ServerInterceptingCall(call, {
      start: (next) => {
        next();
        call.sendStatus(toStatus(new ShuttingDownError()));
      },
    });
  };
}
