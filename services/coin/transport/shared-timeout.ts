import { LinkedList, type ListNode } from '../linked-list';

/** An entry and its arrival time, in milliseconds of performance.now(). */
export interface Timed<T> {
  readonly value: T;
  readonly since: number;
  /** True once the function was called for it. */
  isReported: boolean;
}

/**
 * Maximum number of entries for which the function is called in one turn of the event loop: thousands of calls that began
 * together end together.
 */
const MAX_PER_TURN = 64;

/**
 * Calls a function for each entry that lasts longer than a fixed time. One timer serves all
 * entries, because a timer for each call is a noticeable part of the cost of a call.
 */
export class SharedTimeout<T> {
  readonly #ms: number;
  readonly #onTimeout: (value: T) => void;
  readonly #entries = new LinkedList<Timed<T>>();
  #timer: NodeJS.Timeout | undefined;

  constructor(ms: number, onTimeout: (value: T) => void) {
    this.#ms = ms;
    this.#onTimeout = onTimeout;
  }

  add(value: T): ListNode<Timed<T>> {
    this.#timer ??= this.#checkAfter(this.#ms);
    return this.#entries.add({ value, since: performance.now(), isReported: false });
  }

  remove(node: ListNode<Timed<T>>): void {
    this.#entries.remove(node);
  }

  /** Reports the entries that have timed out. They stay in the list until they are removed. */
  #check(): void {
    this.#timer = undefined;
    const timedOut: T[] = [];
    for (const entry of this.#entries) {
      if (entry.isReported) continue;
      const leftMs = timedOut.length < MAX_PER_TURN ? entry.since + this.#ms - performance.now() : 1;
      if (leftMs > 0) {
        this.#timer = this.#checkAfter(leftMs);
        break;
      }
      entry.isReported = true;
      timedOut.push(entry.value);
    }
    for (const value of timedOut) this.#onTimeout(value);
  }

  #checkAfter(ms: number): NodeJS.Timeout {
    return setTimeout(() => this.#check(), Math.ceil(ms)).unref();
  }
}
