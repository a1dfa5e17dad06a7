import { LinkedList, type ListNode } from '../linked-list';

/** An entry and its arrival time, in milliseconds of performance.now(). */
export interface Timed<T> {
  readonly value: T;
  readonly since: number;
}

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
    return this.#entries.add({ value, since: performance.now() });
  }

  remove(node: ListNode<Timed<T>>): void {
    this.#entries.remove(node);
  }

  /** Reports the entries that have timed out. They stay in the list until they are removed. */
  #check(): void {
    this.#timer = undefined;
    const timedOut: T[] = [];
    for (const { value, since } of this.#entries) {
      const leftMs = since + this.#ms - performance.now();
      if (leftMs > 0) {
        this.#timer = this.#checkAfter(leftMs);
        break;
      }
      timedOut.push(value);
    }
    for (const value of timedOut) this.#onTimeout(value);
  }

  #checkAfter(ms: number): NodeJS.Timeout {
    return setTimeout(() => this.#check(), Math.ceil(ms)).unref();
  }
}
