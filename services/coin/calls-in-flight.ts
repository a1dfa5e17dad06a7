import { OverloadedError } from './errors';

export interface CallBounds {
  /** How many calls may be worked on at the same time. */
  readonly maxCalls: number;
  /** A call that would wait longer for its turn is not taken; in milliseconds. */
  readonly maxWaitMs: number;
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
export class CallsInFlight {
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
    const { maxCalls, maxWaitMs, waiting } = this.#bounds;
    return this.#count >= maxCalls || waiting.expectedMs > maxWaitMs;
  }

  /** A call that is not a fetch waits for no turn, and is not refused for it. */
  isFullFor(path: string): boolean {
    const { maxWaitMs, fetching } = this.#bounds;
    return this.isFull || (path.endsWith('FetchCoins') && (fetching?.expectedMs ?? 0) > maxWaitMs);
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
