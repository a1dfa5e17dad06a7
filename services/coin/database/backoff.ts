/** The pause after the first failure, in milliseconds. It doubles after each further failure. */
const FIRST_PAUSE_MS = 50;
/** The longest pause, in milliseconds. A server that is back is found again within this time. */
const MAX_PAUSE_MS = 1000;

type Connect = (callback: (error?: Error) => void) => void;

/** A connection was refused without an attempt, because an attempt failed a moment ago. */
export class PausedError extends Error {
  override readonly name = 'PausedError';
  /** @param cause the error of the latest attempt */
  constructor(cause?: unknown) {
    super('The server could not be reached a moment ago. The next attempt is made after a pause.', { cause });
  }
}

/**
 * Decides when a new connection may be attempted. After a failure there is a pause without
 * attempts, whatever the number of callers, and then one attempt. If it succeeds, all callers may
 * connect again; if it fails, the next pause is longer. Meanwhile callers are refused at once. So
 * they do not wait in vain, and a server that starts does not receive all of them at the same time.
 */
export class ReconnectBackoff {
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #onFailure: (error: Error) => void;
  /** The number of consecutive failures. */
  #failures = 0;
  #latestError: Error | undefined;
  #pausedUntil = 0;
  #isAttempted = false;

  /**
   * @param now a monotonic clock, in milliseconds
   * @param onFailure receives the error of the first of consecutive failures
   */
  constructor(
    now: () => number = () => performance.now(),
    random: () => number = Math.random,
    onFailure: (error: Error) => void = () => {},
  ) {
    this.#now = now;
    this.#random = random;
    this.#onFailure = onFailure;
  }

  /**
   * Connects with `connect`, or calls `callback` with PausedError, but never before this method
   * returns.
   * @param isOutage false for an error after which other callers may go on connecting
   */
  attempt(connect: Connect, callback: (error?: Error) => void, isOutage: (error: Error) => boolean = () => true): void {
    if (this.#failures > 0 && (this.#isAttempted || this.#now() < this.#pausedUntil)) {
      setImmediate(callback, new PausedError(this.#latestError));
      return;
    }
    const before = this.#failures;
    this.#isAttempted = true;
    connect((error) => {
      if (error && isOutage(error)) this.#failed(before, error);
      else this.#failures = 0;
      callback(error);
    });
  }

  /** Records that a connection which was opened cannot be used, like a failed attempt. */
  failedLater(error: Error): void {
    if (this.#now() >= this.#pausedUntil) this.#failed(this.#failures, error);
  }

  /** Records a failure. Of attempts that ran at the same time, only the first failure counts. */
  #failed(before: number, error: Error): void {
    if (this.#failures !== before) return;
    this.#latestError = error;
    if (before === 0) this.#onFailure(error);
    const pauseMs = Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** before);
    this.#failures = before + 1;
    this.#isAttempted = false;
    // A random part of the second half, so that services that lost the same PostgreSQL do not
    // return in step.
    this.#pausedUntil = this.#now() + pauseMs * (0.5 + this.#random() / 2);
  }
}
