import { OverloadedError } from './errors';

export interface CallBounds {
  /** The maximum number of calls in flight. */
  readonly maxCalls: number;
  /** The maximum estimated wait of a call for a connection or a batch, in milliseconds. */
  readonly maxWaitMs: number;
  /** The estimated wait for a connection to the database. */
  readonly waiting: { readonly expectedMs: number };
  /** The estimated additional wait of a fetch for its batch. */
  readonly fetching?: { readonly expectedMs: number };
}

/**
 * Counts the calls in flight and decides whether there is room for more. The count alone would not
 * suffice: a queue that is short for a fast database is long for a slow one, and every call in it
 * would wait, many of them in vain. A call is in flight from its complete request to its response,
 * so a caller that sends or reads slowly takes no room.
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

  /** True if no further call can be accepted. */
  get isFull(): boolean {
    const { maxCalls, maxWaitMs, waiting } = this.#bounds;
    return this.#count >= maxCalls || waiting.expectedMs > maxWaitMs;
  }

  /**
   * Returns true if no further call of this path can be accepted. Only fetches wait for a batch.
   */
  isFullFor(path: string): boolean {
    const { maxWaitMs, fetching } = this.#bounds;
    return this.isFull || (path.endsWith('FetchCoins') && (fetching?.expectedMs ?? 0) > maxWaitMs);
  }

  /**
   * Counts one more call, until `leave` is called for it.
   * @throws OverloadedError if there is no room
   */
  enter(): void {
    if (this.isFull) throw new OverloadedError();
    this.#count += 1;
  }

  /** Must be paired with `enter`. */
  leave(): void {
    this.#count -= 1;
    if (this.#count === 0) for (const listener of this.#listeners.splice(0)) listener();
  }

  /** Resolves when no call is in flight, including calls of disconnected clients. */
  async none(): Promise<void> {
    if (this.#count > 0) await new Promise<void>((resolve) => this.#listeners.push(resolve));
  }
}
