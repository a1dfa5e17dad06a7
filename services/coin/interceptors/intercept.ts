import {
  type Metadata,
  ServerInterceptingCall,
  type ServerInterceptor,
  type ServerListener,
  type StatusObject,
} from '@grpc/grpc-js';
import { toStatus } from '../rpc/status';

type RefusalStatus = StatusObject & Pick<Ending, 'reason'>;

/** A status to refuse a call of this path with, unread; undefined: it may come in. */
export type Refusal = (path: string) => RefusalStatus | undefined;

/** Finds out whose call it is, at once (undefined) or later. Rejects for a call that is not to come in. */
export type Identify = (path: string, metadata: Metadata) => undefined | Promise<void>;

/** The end of a call: its status, with the reason where it was refused here. */
export interface Ending {
  readonly code?: number | null;
  readonly reason?: string;
}

/** Hears of a call, and of its end. */
export type Witness = (path: string) => (sent: Ending) => void;

export interface Interception {
  /** Sees what the others answer. */
  readonly witness: Witness;
  /** In this order, before the call is looked at. */
  readonly refusals: readonly Refusal[];
  /** Before the message is read. */
  readonly identify: Identify;
}

/** Several in the place of one. */
export function together(...witnesses: readonly Witness[]): Witness {
  return (path) => {
    const ended = witnesses.map((witness) => witness(path));
    return (sent) => {
      for (const each of ended) each(sent);
    };
  };
}

/**
 * What happens around every call. One interceptor for all of it: grpc-js hands every event of a call through each.
 */
export function intercept({ witness, refusals, identify }: Interception): ServerInterceptor {
  return ({ path }, call) => {
    const ended = witness(path);
    const answer = (status: RefusalStatus): void => {
      ended(status);
      call.sendStatus(status);
    };
    const listener: ServerListener = {
      onReceiveMetadata: (metadata, next) => {
        const identified = identify(path, metadata);
        if (identified === undefined) next(metadata);
        else
          identified.then(
            () => next(metadata),
            (error: unknown) => answer(toStatus(error)),
          );
      },
    };
    return new ServerInterceptingCall(call, {
      start: (next) => {
        for (const refuse of refusals) {
          const refused = refuse(path);
          if (!refused) continue;
          next();
          answer(refused);
          return;
        }
        next(listener);
      },
      sendStatus: (sent, next) => {
        ended(sent);
        next(sent);
      },
    });
  };
}
