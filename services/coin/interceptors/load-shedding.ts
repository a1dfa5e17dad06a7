import { OverloadedError } from '../errors';
import { toStatus } from '../rpc/status';
import type { Refusal } from './intercept';

export interface CallBounds {
  /** How many calls may be worked on at the same time. */
  readonly mostCalls: number;
  /** A call that would wait longer for its turn is not taken; in milliseconds. */
  readonly mostWaitMs: number;
  /** How long one more call would wait for a connection to the database. */
  readonly waiting: { readonly expectedMs: number };
  /** How long one more fetch would wait for its turn, besides. */
  readonly fetching?: { readonly expectedMs: number };
}

/**
 * The calls that are being worked on, and whether there is room for more. The number alone would not do: what is a short
 * queue for a fast database is a long one when it is slow, and everybody in it would wait, and many in vain. A call counts
 * from its whole request to its answer, not longer: a caller that sends slowly or reads slowly takes nobody's place.
 */
export class CallsUnderWay {
  readonly #bounds: CallBounds;
  readonly #listeners: (() => void)[] = [];
  #count = 0;

  constructor(bounds: CallBounds) {
    this.#bounds = bounds;
  }

  get count(): number {
    return this.#count;
  }

  get isFull(): boolean {
    const { mostCalls, mostWaitMs, waiting } = this.#bounds;
    return this.#count >= mostCalls || waiting.expectedMs > mostWaitMs;
  }

  /** A call that is not a fetch waits for no turn, and is not refused for it. */
  isFullFor(path: string): boolean {
    const { mostWaitMs, fetching } = this.#bounds;
    return this.isFull || (path.endsWith('FetchCoins') && (fetching?.expectedMs ?? 0) > mostWaitMs);
  }

  /** One more, until it leaves. @throws OverloadedError when there are too many already */
  enter(): void {
    if (this.isFull) throw new OverloadedError();
    this.#count += 1;
  }

  /** Of one that has entered; once. */
  leave(): void {
    this.#count -= 1;
    if (this.#count === 0) for (const listener of this.#listeners.splice(0)) listener();
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
export function shed(calls: CallsUnderWay): Refusal {
  const refusal = toStatus(new OverloadedError());
  return (path) => (path.startsWith(OURS) && calls.isFullFor(path) ? refusal : undefined);
}
