import { ServerInterceptingCall, type ServerInterceptor } from '@grpc/grpc-js';
import { OverloadedError } from '../errors';
import { toStatus } from '../rpc/status';

/**
 * The calls that are being worked on, and the most that may be. A call counts from its whole request to its answer, not
 * longer: a caller that sends slowly or reads slowly takes nobody's place.
 */
export class CallsUnderWay {
  readonly #most: number;
  readonly #listeners: (() => void)[] = [];
  #count = 0;

  constructor(most: number) {
    this.#most = most;
  }

  get isFull(): boolean {
    return this.#count >= this.#most;
  }

  /** @throws OverloadedError, at once, when there are too many already */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.isFull) throw new OverloadedError();
    this.#count += 1;
    try {
      return await work();
    } finally {
      this.#count -= 1;
      if (this.#count === 0) for (const listener of this.#listeners.splice(0)) listener();
    }
  }

  /** Resolves when nothing is worked on any more, not for callers that are gone either. */
  async none(): Promise<void> {
    if (this.#count > 0) await new Promise<void>((resolve) => this.#listeners.push(resolve));
  }
}

/** Health and reflection need no database, and an operator wants them most when there is too much to do. */
const OURS = '/aqm.';

/**
 * Refuses calls at once, unread, while too many are under way. The waiting of those that are taken stays short, and
 * what is refused costs next to nothing.
 */
export function shed(calls: CallsUnderWay): ServerInterceptor {
  return (method, call) => {
    if (!calls.isFull || !method.path.startsWith(OURS)) return new ServerInterceptingCall(call);
    return new ServerInterceptingCall(call, {
      start: (next) => {
        next();
        call.sendStatus(toStatus(new OverloadedError()));
      },
    });
  };
}
