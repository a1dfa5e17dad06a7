/** How much the last turn counts against all before it. */
const WEIGHT = 0.1;
/** A longer pause between two turns is a stall, and says little about the turns after it; in milliseconds. */
const LONGEST_PAUSE_MS = 100;
/** The same of turns, each of which serves many. */
const TURN_WEIGHT = 0.25;

/**
 * Those who wait for a free connection, in the order in which they came and are served, and how long one more would wait:
 * by their number, and by how fast turns came while somebody waited. The age of the first in the queue would tell too
 * late: by then, at five times capacity, the queue is five times as long.
 */
export class QueueDelayEstimate {
  readonly #now: () => number;
  #count = 0;
  /** Between two turns, while somebody waited; smoothed, in milliseconds. */
  #pauseMs = 0;
  /** Since when nobody had a turn, although somebody waited. */
  #since = 0;

  /** @param now a clock in milliseconds that never goes back */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** How long one who came now would wait, in milliseconds; 0 when nobody waits. */
  get expectedMs(): number {
    return this.#count === 0 ? 0 : this.#count * this.#pauseMs + (this.#now() - this.#since);
  }

  get count(): number {
    return this.#count;
  }

  /** One more waits, until `turn` is settled. */
  async until<T>(turn: Promise<T>): Promise<T> {
    if (this.#count === 0) this.#since = this.#now();
    this.#count += 1;
    try {
      return await turn;
    } finally {
      this.#count -= 1;
      const now = this.#now();
      const pauseMs = Math.min(LONGEST_PAUSE_MS, now - this.#since);
      this.#pauseMs += WEIGHT * (pauseMs - this.#pauseMs);
      this.#since = now;
    }
  }
}

/** The same for those who are served many at a time, turn after turn. */
export class BatchDelayEstimate {
  readonly #now: () => number;
  readonly #longestMs: number;
  /** How many a turn serves when more wait than it can take; smoothed. */
  #size: number;
  /** How long a turn takes; smoothed, in milliseconds. */
  #turnMs = 0;
  /** When the present turn began. */
  #since: number | undefined;

  /** @param longestMs a longer turn is a stall, and says little about the turns after it; in milliseconds */
  constructor(size: number, longestMs: number, now: () => number = () => performance.now()) {
    this.#size = size;
    this.#longestMs = longestMs;
    this.#now = now;
  }

  begin(): void {
    this.#since = this.#now();
  }

  /** The present turn serves so many, and so many go on waiting. */
  took(served: number, left: number): void {
    if (left > 0) this.#size += TURN_WEIGHT * (Math.max(1, served) - this.#size);
  }

  end(): void {
    const turnMs = Math.min(this.#longestMs, this.#now() - (this.#since ?? this.#now()));
    this.#turnMs += TURN_WEIGHT * (turnMs - this.#turnMs);
    this.#since = undefined;
  }

  /** How long one who came now, after `waiting` others, would wait for the turn to begin, in milliseconds; 0 between turns. */
  expectedMs(waiting: number): number {
    if (this.#since === undefined) return 0;
    // Nearer to its end the longer it takes, until it takes longer than it should.
    const rest = Math.abs(this.#turnMs - (this.#now() - this.#since));
    return rest + Math.floor(waiting / this.#size) * this.#turnMs;
  }
}
