import { CancelledError, DeadlineExceededError, type DomainError } from './errors';

/** Work that waits to begin and can be given up. */
export interface Waiter {
  /** Called once the caller no longer waits. */
  giveUp(error: DomainError): void;
}

/** The time until which a caller waits for its answer. No work begins after it. */
export class Deadline {
  /** A deadline that never passes, for background work that has no caller. */
  static readonly NONE = new Deadline(Number.POSITIVE_INFINITY, () => new Date());

  readonly #at: number;
  readonly #now: () => Date;
  /** Holds mostly none or one. A Set would retain members that were removed, see linked-list.ts. */
  readonly #waiters: Waiter[] = [];
  #ended = false;

  /** @param at milliseconds since 1970 */
  constructor(at: number, now: () => Date) {
    this.#at = at;
    this.#now = now;
  }

  /**
   * Ends the wait, because the time is over or the call was cancelled. Every subscribed waiter is
   * given up.
   */
  end(): void {
    this.#ended = true;
    for (const waiter of this.#waiters.splice(0)) waiter.giveUp(this.#error());
  }

  /**
   * Throws if the caller no longer waits. Also checks the clock, because timers fire late in a busy
   * process.
   * @throws DeadlineExceededError, CancelledError
   */
  check(): void {
    if (this.#ended || this.#isPast()) throw this.#error();
  }

  /**
   * Notifies `waiter` when the caller no longer waits.
   * @throws DeadlineExceededError, CancelledError
   */
  subscribe(waiter: Waiter): void {
    this.check();
    this.#waiters.push(waiter);
  }

  /** Removes the waiter, because its work begins or was given up. Safe to call again. */
  unsubscribe(waiter: Waiter): void {
    const index = this.#waiters.indexOf(waiter);
    if (index < 0) return;
    const last = this.#waiters.pop();
    if (last && last !== waiter) this.#waiters[index] = last;
  }

  /**
   * Runs `work`, which first waits for something and then calls `begin`. If the caller gives up
   * during that wait, this rejects immediately, and `begin` throws when it is called. Work that has
   * begun runs to its end.
   * @throws DeadlineExceededError, CancelledError, and what `work` throws
   */
  whileWaiting<T>(work: (begin: () => void) => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const waiter = { giveUp: reject };
      this.subscribe(waiter);
      const begin = () => {
        this.unsubscribe(waiter);
        this.check();
      };
      work(begin).then(resolve, (error: unknown) => {
        this.unsubscribe(waiter);
        reject(error);
      });
    });
  }

  #isPast(): boolean {
    return this.#at !== Number.POSITIVE_INFINITY && this.#now().getTime() >= this.#at;
  }

  #error(): DomainError {
    return this.#isPast() ? new DeadlineExceededError() : new CancelledError();
  }
}
