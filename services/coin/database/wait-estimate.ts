/** The weight of the latest pause in the smoothed value. */
const WEIGHT = 0.1;
/**
 * The longest pause that is counted, in milliseconds. A longer one is a stall, and says little
 * about the next ones.
 */
const LONGEST_PAUSE_MS = 100;

/**
 * Estimates the queueing delay for a connection of the pool from the queue length and the rate at
 * which connections become free while statements wait. The age of the first statement in the queue
 * would show overload too late: at five times the capacity the queue is five times as long before
 * its first member is old.
 */
export class QueueDelayEstimate {
  readonly #now: () => number;
  #count = 0;
  /** The time between two free connections while statements wait, in milliseconds; smoothed. */
  #pauseMs = 0;
  /** The time at which a connection last became free, or the queue began. */
  #since = 0;

  /** @param now a monotonic clock in milliseconds */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** The estimated wait of a statement that arrives now, in milliseconds; 0 if none waits. */
  get expectedMs(): number {
    return this.#count === 0 ? 0 : this.#count * this.#pauseMs + (this.#now() - this.#since);
  }

  /** The number of statements that wait for a connection. */
  get count(): number {
    return this.#count;
  }

  /** Counts one more waiting statement until `connection` is settled. */
  async until<T>(connection: Promise<T>): Promise<T> {
    if (this.#count === 0) this.#since = this.#now();
    this.#count += 1;
    try {
      return await connection;
    } finally {
      this.#count -= 1;
      const now = this.#now();
      const pauseMs = Math.min(LONGEST_PAUSE_MS, now - this.#since);
      this.#pauseMs += WEIGHT * (pauseMs - this.#pauseMs);
      this.#since = now;
    }
  }
}
