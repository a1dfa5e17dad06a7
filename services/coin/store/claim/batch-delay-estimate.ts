/** The weight of the latest batch in the smoothed values. */
const WEIGHT = 0.25;

/**
 * Estimates how long a fetch waits for its batch, from the queue length and the duration and size
 * of recent batches.
 */
export class BatchDelayEstimate {
  readonly #now: () => number;
  readonly #longestMs: number;
  /** The number of fetches in a batch while more wait than it can take; smoothed. */
  #size: number;
  /** The duration of a batch, in milliseconds; smoothed. */
  #durationMs = 0;
  /** The time at which the running batch began; undefined between batches. */
  #since: number | undefined;

  /**
   * @param size the initial estimate of the fetches in a batch
   * @param longestMs a longer batch counts as one of this duration: it is a stall, and says little
   *   about the next ones
   * @param now a monotonic clock in milliseconds
   */
  constructor(size: number, longestMs: number, now: () => number = () => performance.now()) {
    this.#size = size;
    this.#longestMs = longestMs;
    this.#now = now;
  }

  begin(): void {
    this.#since = this.#now();
  }

  /** Records that the running batch serves `served` fetches, and that `left` go on waiting. */
  took(served: number, left: number): void {
    if (left > 0) this.#size += WEIGHT * (Math.max(1, served) - this.#size);
  }

  end(): void {
    const durationMs = Math.min(this.#longestMs, this.#now() - (this.#since ?? this.#now()));
    this.#durationMs += WEIGHT * (durationMs - this.#durationMs);
    this.#since = undefined;
  }

  /**
   * Returns the time that a fetch behind `waiting` others would wait for its batch, in
   * milliseconds; 0 between batches.
   */
  expectedMs(waiting: number): number {
    if (this.#since === undefined) return 0;
    // The rest of the running batch, or how much longer than usual it takes already.
    const rest = Math.abs(this.#durationMs - (this.#now() - this.#since));
    return rest + Math.floor(waiting / this.#size) * this.#durationMs;
  }
}
