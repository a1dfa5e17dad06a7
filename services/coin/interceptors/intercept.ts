import { type Metadata, ServerInterceptingCall, type ServerInterceptor, type StatusObject } from '@grpc/grpc-js';
import { newCallId, setCallId } from '../call-id';
import { type FailureFacts, factsOf, toStatus, withCallId } from '../rpc/status';

/**
 * Decides if a call of this path is admitted. Returns undefined to admit it, or the status to
 * refuse it with, unread.
 */
export type AdmissionCheck = (path: string) => StatusObject | undefined;

/**
 * Identifies the caller of a call and stores the result with the call's metadata. Returns undefined
 * if that was possible at once, else a promise. The promise rejects if the call must not be
 * admitted.
 */
export type Authenticate = (
  path: string,
  metadata: Metadata,
  call: Pick<ServerInterceptingCall, 'getConnectionInfo'>,
) => undefined | Promise<void>;

/** The status that a call ended with. */
export interface CallOutcome {
  readonly code?: number | null;
  /** undefined for a call that succeeded, or that grpc-js refused by itself. */
  readonly failure?: FailureFacts | undefined;
}

/**
 * Is notified when a call begins. `callId` is the id that its caller sees (call-id.ts). The function it returns is called once, when the call's status is
 * sent.
 */
export type CallObserver = (path: string, callId: string) => (outcome: CallOutcome) => void;

export interface Interception {
  /** Also sees the calls that the other two refuse. */
  readonly observer: CallObserver;
  /** Run in this order when the call's headers arrive. The first refusal is sent. */
  readonly admissionChecks: readonly AdmissionCheck[];
  /** Runs after the admission checks, before the message is read. */
  readonly authenticate: Authenticate;
}

/** Combines several observers into one. */
export function combineObservers(...observers: readonly CallObserver[]): CallObserver {
  return (path, callId) => {
    const onOutcomes = observers.map((observer) => observer(path, callId));
    return (outcome) => {
      for (const onOutcome of onOutcomes) onOutcome(outcome);
    };
  };
}

/**
 * Returns the one interceptor of the server, which observes, admits and authenticates every call.
 * It is a single one because grpc-js passes every event of a call through each interceptor.
 */
export function intercept(interception: Interception): ServerInterceptor {
  return ({ path }, call) => new InterceptedCall(call, path, interception);
}

type Call = ConstructorParameters<typeof ServerInterceptingCall>[0];
type Status = Parameters<ServerInterceptingCall['sendStatus']>[0];
type Listener = Parameters<ServerInterceptingCall['start']>[0];

/**
 * Passes every event on immediately. Its base class holds events back for interceptors that change
 * messages, which this one does not.
 */
class InterceptedCall extends ServerInterceptingCall {
  readonly #call: Call;
  readonly #path: string;
  readonly #id = newCallId();
  readonly #interception: Interception;
  readonly #onOutcome: (outcome: CallOutcome) => void;
  #isOver = false;

  constructor(call: Call, path: string, interception: Interception) {
    super(call);
    this.#call = call;
    this.#path = path;
    this.#interception = interception;
    this.#onOutcome = interception.observer(path, this.#id);
  }

  override start(listener: Listener): void {
    for (const check of this.#interception.admissionChecks) {
      const refusal = check(this.#path);
      if (!refusal) continue;
      this.#call.start(listener);
      this.sendStatus(refusal);
      return;
    }
    this.#call.start(new AuthenticatingListener(listener, (metadata) => this.#authenticate(metadata)));
  }

  override sendMetadata(metadata: Metadata): void {
    this.#call.sendMetadata(metadata);
  }

  override sendMessage(message: unknown, onSent: () => void): void {
    this.#call.sendMessage(message, onSent);
  }

  override sendStatus(sent: Status): void {
    // grpc-js ends a call that was refused unread once more, because it misses the message (UNIMPLEMENTED).
    if (this.#isOver) return;
    this.#isOver = true;
    this.#onOutcome({ code: sent.code ?? null, failure: factsOf(sent) });
    this.#call.sendStatus({ ...sent, metadata: withCallId(sent.metadata, this.#id) });
  }

  #authenticate(metadata: Metadata): undefined | Promise<boolean> {
    setCallId(metadata, this.#id);
    return this.#interception.authenticate(this.#path, metadata, this)?.then(
      () => true,
      (error: unknown) => {
        this.sendStatus(toStatus(error));
        return false;
      },
    );
  }
}

/**
 * Passes a call's headers on once its caller is identified. grpc-js reads the message only after
 * that, so no other event can overtake them.
 */
class AuthenticatingListener implements Listener {
  readonly #listener: Listener;
  readonly #authenticate: (metadata: Metadata) => undefined | Promise<boolean>;
  #isCancelled = false;

  /**
   * @param authenticate returns undefined if the caller was identified at once, else a promise of
   * the admission
   */
  constructor(listener: Listener, authenticate: (metadata: Metadata) => undefined | Promise<boolean>) {
    this.#listener = listener;
    this.#authenticate = authenticate;
  }

  onReceiveMetadata(metadata: Metadata): void {
    const pending = this.#authenticate(metadata);
    if (!pending) this.#listener.onReceiveMetadata(metadata);
    else
      void pending.then((isAdmitted) => {
        if (isAdmitted && !this.#isCancelled) this.#listener.onReceiveMetadata(metadata);
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
