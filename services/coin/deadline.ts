import { CancelledError, type CoinServiceError, DeadlineExceededError } from './errors';

/** How long somebody waits for an answer. What nobody waits for any more is not begun. */
export class Deadline {
  /** Of work that is not done for a caller. */
  static readonly NONE = new Deadline(Number.POSITIVE_INFINITY, () => new Date());

  readonly #at: number;
  readonly #now: () => Date;
  readonly #waiting = new Set<() => void>();
  #ended = false;

  /** @param at milliseconds since 1970 */
  constructor(at: number, now: () => Date) {
    this.#at = at;
    this.#now = now;
  }

  /** The caller waits no longer, for whatever reason. */
  end(): void {
    this.#ended = true;
    for (const giveUp of this.#waiting) giveUp();
  }

  /**
   * By the clock too: a process with much to do hears of the end late. @throws DeadlineExceededError, CancelledError
   */
  check(): void {
    if (this.#ended || this.#isPast()) throw this.#error();
  }

  /**
   * Runs `work` that first waits for something and then calls `begin`. When the caller gives up while it waits, this ends
   * at once, and `begin` throws when it is called; what has begun runs to its end.
   * @throws DeadlineExceededError, CancelledError, and what `work` throws
   */
  async whileWaiting<T>(work: (begin: () => void) => Promise<T>): Promise<T> {
    this.check();
    return new Promise((resolve, reject) => {
      const giveUp = () => reject(this.#error());
      this.#waiting.add(giveUp);
      const begin = () => {
        this.#waiting.delete(giveUp);
        this.check();
      };
      work(begin).then(resolve, (error: unknown) => {
        this.#waiting.delete(giveUp);
        reject(error);
      });
    });
  }

  #isPast(): boolean {
    return this.#at !== Number.POSITIVE_INFINITY && this.#now().getTime() >= this.#at;
  }

  #error(): CoinServiceError {
    return this.#isPast() ? new DeadlineExceededError() : new CancelledError();
  }
}
