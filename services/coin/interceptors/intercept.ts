import { type Metadata, ServerInterceptingCall, type ServerInterceptor, type StatusObject } from '@grpc/grpc-js';
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
export function intercept(interception: Interception): ServerInterceptor {
  return ({ path }, call) => new InterceptedCall(call, path, interception);
}

type Call = ConstructorParameters<typeof ServerInterceptingCall>[0];
type Sent = Parameters<ServerInterceptingCall['sendStatus']>[0];
type Listener = Parameters<ServerInterceptingCall['start']>[0];

/** Hands everything on at once. The class below it holds events back for interceptors that change messages, which none does here. */
class InterceptedCall extends ServerInterceptingCall {
  readonly #call: Call;
  readonly #path: string;
  readonly #interception: Interception;
  readonly #ended: (sent: Ending) => void;

  constructor(call: Call, path: string, interception: Interception) {
    super(call);
    this.#call = call;
    this.#path = path;
    this.#interception = interception;
    this.#ended = interception.witness(path);
  }

  override start(listener: Listener): void {
    for (const refuse of this.#interception.refusals) {
      const refused = refuse(this.#path);
      if (!refused) continue;
      this.#call.start(listener);
      this.sendStatus(refused);
      return;
    }
    this.#call.start(new IdentifyingListener(listener, (metadata) => this.#identify(metadata)));
  }

  override sendMetadata(metadata: Metadata): void {
    this.#call.sendMetadata(metadata);
  }

  override sendMessage(message: unknown, sent: () => void): void {
    this.#call.sendMessage(message, sent);
  }

  override sendStatus(sent: Sent): void {
    this.#ended(sent);
    this.#call.sendStatus(sent);
  }

  #identify(metadata: Metadata): undefined | Promise<boolean> {
    return this.#interception.identify(this.#path, metadata)?.then(
      () => true,
      (error: unknown) => {
        this.sendStatus(toStatus(error));
        return false;
      },
    );
  }
}

/** Tells of a call when it is known whose it is. Until then nobody has asked for its message, so that nothing else comes. */
class IdentifyingListener implements Listener {
  readonly #listener: Listener;
  readonly #identify: (metadata: Metadata) => undefined | Promise<boolean>;
  #isCancelled = false;

  /** @param identify undefined: it is known; else whether it may come in */
  constructor(listener: Listener, identify: (metadata: Metadata) => undefined | Promise<boolean>) {
    this.#listener = listener;
    this.#identify = identify;
  }

  onReceiveMetadata(metadata: Metadata): void {
    const identified = this.#identify(metadata);
    if (!identified) this.#listener.onReceiveMetadata(metadata);
    else
      void identified.then((mayComeIn) => {
        if (mayComeIn && !this.#isCancelled) this.#listener.onReceiveMetadata(metadata);
      });
  }

  onReceiveMessage(message: unknown): void {
    this.#listener.onReceiveMessage(message);
  }

  onReceiveHalfClose(): void {
    this.#listener.onReceiveHalfClose();
  }

  onCancel(): void {
    this.#isCancelled = true;
    this.#listener.onCancel();
  }
}
