/** Pause after the first failure, in milliseconds; doubled after each further one. */
const FIRST_PAUSE_MS = 50;
/** Longest pause, in milliseconds: so soon after it is back a server is found again. */
const LONGEST_PAUSE_MS = 1000;

type Connect = (callback: (error?: Error) => void) => void;

/** Refused without having been tried. */
export class PausedError extends Error {
  override readonly name = 'PausedError';
  constructor() {
    super('The server could not be reached a moment ago and is not tried again yet.');
  }
}

/**
 * When a new connection may be tried. After a failure nobody tries for a while, whatever the number of callers, and then
 * one does; its success lets everybody in, its failure makes the next pause longer. Callers are refused at once
 * meanwhile, so that they wait for nothing and a server that starts is not met by a crowd.
 */
export class ReconnectBackoff {
  readonly #now: () => number;
  readonly #random: () => number;
  /** Failures in a row. */
  #failures = 0;
  #pausedUntil = 0;
  #isTried = false;

  /** @param now a clock in milliseconds that never goes back */
  constructor(now: () => number = () => performance.now(), random: () => number = Math.random) {
    this.#now = now;
    this.#random = random;
  }

  /** Connects by `connect`, or tells `callback` PausedError, never before it returns. */
  attempt(connect: Connect, callback: (error?: Error) => void): void {
    if (this.#failures > 0 && (this.#isTried || this.#now() < this.#pausedUntil)) {
      setImmediate(callback, new PausedError());
      return;
    }
    const before = this.#failures;
    this.#isTried = true;
    connect((error) => {
      if (error) this.#failed(before);
      else this.#failures = 0;
      callback(error);
    });
  }

  /** Of attempts that ran at the same time, one failure counts. */
  #failed(before: number): void {
    if (this.#failures !== before) return;
    const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** before);
    this.#failures = before + 1;
    this.#isTried = false;
    // At least half of it, so that the servers that lost one PostgreSQL do not come back in step.
    this.#pausedUntil = this.#now() + pauseMs * (0.5 + this.#random() / 2);
  }
}
