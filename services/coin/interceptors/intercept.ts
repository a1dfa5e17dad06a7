import { type Metadata, ServerInterceptingCall, type ServerInterceptor, type StatusObject } from '@grpc/grpc-js';
import { toStatus } from '../rpc/status';

type RefusalStatus = StatusObject & Pick<Ending, 'reason'>;

/** A status to refuse a call of this path with, unread; undefined: it may come in. */
export type AdmissionCheck = (path: string) => RefusalStatus | undefined;

/** Finds out whose call it is, at once (undefined) or later. Rejects for a call that is not to come in. */
export type Authenticate = (path: string, metadata: Metadata) => undefined | Promise<void>;

/** The end of a call: its status, with the reason where it was refused here. */
export interface Ending {
  readonly code?: number | null;
  readonly reason?: string;
}

/** Hears of a call, and of its end. */
export type CallObserver = (path: string) => (sent: Ending) => void;

export interface Interception {
  /** Sees what the others answer. */
  readonly observer: CallObserver;
  /** In this order, before the call is looked at. */
  readonly admissionChecks: readonly AdmissionCheck[];
  /** Before the message is read. */
  readonly authenticate: Authenticate;
}

/** Several in the place of one. */
export function combineObservers(...witnesses: readonly CallObserver[]): CallObserver {
  return (path) => {
    const ended = witnesses.map((observer) => observer(path));
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
    this.#ended = interception.observer(path);
  }

  override start(listener: Listener): void {
    for (const refuse of this.#interception.admissionChecks) {
      const refused = refuse(this.#path);
      if (!refused) continue;
      this.#call.start(listener);
      this.sendStatus(refused);
      return;
    }
    this.#call.start(new AuthenticatingListener(listener, (metadata) => this.#authenticate(metadata)));
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

  #authenticate(metadata: Metadata): undefined | Promise<boolean> {
    return this.#interception.authenticate(this.#path, metadata)?.then(
      () => true,
      (error: unknown) => {
        this.sendStatus(toStatus(error));
        return false;
      },
    );
  }
}

/** Tells of a call when it is known whose it is. Until then nobody has asked for its message, so that nothing else comes. */
class AuthenticatingListener implements Listener {
  readonly #listener: Listener;
  readonly #authenticate: (metadata: Metadata) => undefined | Promise<boolean>;
  #isCancelled = false;

  /** @param identify undefined: it is known; else whether it may come in */
  constructor(listener: Listener, authenticate: (metadata: Metadata) => undefined | Promise<boolean>) {
    this.#listener = listener;
    this.#authenticate = authenticate;
  }

  onReceiveMetadata(metadata: Metadata): void {
    const identified = this.#authenticate(metadata);
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
