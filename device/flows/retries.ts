import { setTimeout } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { InvalidArgumentError } from '../errors';

/** Controls the repetition of calls that fail with UNAVAILABLE or DEADLINE_EXCEEDED. */
export interface RetryPolicy {
  /** The maximum number of attempts, 1 to 100. With 1, calls are not repeated. Default 8. */
  readonly attempts?: number;
  /** The first wait is 50 to 100 % of this, in milliseconds; it doubles with each attempt. Default 200. */
  readonly firstDelayMs?: number;
  /** The upper bound of a wait, in milliseconds. Default 5000. The service may request a longer one (RetryInfo). */
  readonly longestDelayMs?: number;
  /** No attempt starts later than this after the first one, in milliseconds. Default 30000. */
  readonly withinMs?: number;
}

/** The part of CoinServiceAccess that controls repetition. */
export interface RetrySettings {
  readonly retry?: RetryPolicy;
  /** Waits for this many milliseconds. Default: a timer. */
  readonly sleep?: (ms: number) => Promise<void>;
  /**
   * Returns a number from 0 to 1, which spreads the waits, so that devices that failed together do not retry together.
   * Default: Math.random.
   */
  readonly random?: () => number;
}

/** The defaults. A restarting service is back within a few seconds, including the recovery of its database. */
const DEFAULTS: Required<RetryPolicy> = {
  attempts: 8,
  firstDelayMs: 200,
  longestDelayMs: 5_000,
  withinMs: 30_000,
};
const MAX_ATTEMPTS = 100;
const MAX_WAIT_MS = 24 * 60 * 60_000;

/** A failed call, or a failed item of one. */
export interface Failure {
  readonly code: number;
  /** The minimum wait that the service requests, in milliseconds. */
  readonly retryAfterMs?: number | undefined;
}

/** Counts the attempts of one call and waits between them. */
export class Retries {
  readonly #policy: Required<RetryPolicy>;
  readonly #sleep: (ms: number) => Promise<void>;
  readonly #random: () => number;
  readonly #startMs = performance.now();
  #made = 1;

  constructor({ retry, sleep, random = Math.random }: RetrySettings) {
    this.#policy = { ...DEFAULTS, ...retry };
    this.#sleep = sleep ?? ((ms) => setTimeout(ms));
    this.#random = random;
  }

  /** Waits until the next attempt may be made and returns true. Returns false immediately if there must not be one. */
  async again(failure: Failure): Promise<boolean> {
    const { attempts, firstDelayMs, longestDelayMs, withinMs } = this.#policy;
    if (!isRetryable(failure.code) || this.#made >= attempts) return false;
    const maxDelayMs = Math.min(firstDelayMs * 2 ** (this.#made - 1), longestDelayMs);
    const delayMs = Math.max((maxDelayMs * (1 + this.#random())) / 2, failure.retryAfterMs ?? 0);
    if (performance.now() - this.#startMs + delayMs > withinMs) return false;
    this.#made += 1;
    await this.#sleep(delayMs);
    return true;
  }
}

/** Returns true if the same call may succeed later. It may also have been carried out already. */
export function isRetryable(code: number): boolean {
  return code === status.UNAVAILABLE || code === status.DEADLINE_EXCEEDED;
}

/** The codes of errors that repeating the same request cannot change. */
const FINAL_CODES: ReadonlySet<number> = new Set([
  status.INVALID_ARGUMENT,
  status.NOT_FOUND,
  status.ALREADY_EXISTS,
  status.PERMISSION_DENIED,
  status.FAILED_PRECONDITION,
  status.OUT_OF_RANGE,
  status.UNIMPLEMENTED,
  status.DATA_LOSS,
]);

/** Returns true if repeating the same request cannot succeed. */
export function isFinal(code: number): boolean {
  return FINAL_CODES.has(code);
}

/** Checks the retry policy. Throws InvalidArgumentError naming the field. */
export function checkRetry({ retry = {} }: RetrySettings): void {
  const { attempts, ...times } = { ...DEFAULTS, ...retry };
  if (!Number.isInteger(attempts) || attempts < 1 || attempts > MAX_ATTEMPTS) {
    throw new InvalidArgumentError('retry.attempts', `must be a whole number from 1 to ${MAX_ATTEMPTS}`);
  }
  for (const [name, ms] of Object.entries(times)) {
    if (!(ms >= 0 && ms <= MAX_WAIT_MS)) {
      throw new InvalidArgumentError(`retry.${name}`, `must be from 0 to ${MAX_WAIT_MS}`);
    }
  }
}
