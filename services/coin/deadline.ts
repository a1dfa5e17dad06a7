import { CancelledError, DeadlineExceededError, type DomainError } from './errors';

/** Work that was not begun yet. */
export interface Waiter {
  /** Nobody waits for it any more. */
  giveUp(error: DomainError): void;
}

/** How long somebody waits for an answer. What nobody waits for any more is not begun. */
export class Deadline {
  /** Of work that is not done for a caller. */
  static readonly NONE = new Deadline(Number.POSITIVE_INFINITY, () => new Date());

  readonly #at: number;
  readonly #now: () => Date;
  /** Mostly none or one. A Set would keep those who are gone, see linked-list.ts. */
  readonly #waiters: Waiter[] = [];
  #ended = false;

  /** @param at milliseconds since 1970 */
  constructor(at: number, now: () => Date) {
    this.#at = at;
    this.#now = now;
  }

  /** The caller waits no longer, for whatever reason. */
  end(): void {
    this.#ended = true;
    for (const waiter of this.#waiters.splice(0)) waiter.giveUp(this.#error());
  }

  /**
   * By the clock too: a process with much to do hears of the end late. @throws DeadlineExceededError, CancelledError
   */
  check(): void {
    if (this.#ended || this.#isPast()) throw this.#error();
  }

  /** Tells `waiter` when the caller waits no longer, until it is forgotten. @throws DeadlineExceededError, CancelledError */
  tell(waiter: Waiter): void {
    this.check();
    this.#waiters.push(waiter);
  }

  /** Its work begins, or will not. */
  forget(waiter: Waiter): void {
    const place = this.#waiters.indexOf(waiter);
    if (place < 0) return;
    const last = this.#waiters.pop();
    if (last && last !== waiter) this.#waiters[place] = last;
  }

  /**
   * Runs `work` that first waits for something and then calls `begin`. When the caller gives up while it waits, this ends
   * at once, and `begin` throws when it is called; what has begun runs to its end.
   * @throws DeadlineExceededError, CancelledError, and what `work` throws
   */
  whileWaiting<T>(work: (begin: () => void) => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const waiter = { giveUp: reject };
      this.tell(waiter);
      const begin = () => {
        this.forget(waiter);
        this.check();
      };
      work(begin).then(resolve, (error: unknown) => {
        this.forget(waiter);
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
