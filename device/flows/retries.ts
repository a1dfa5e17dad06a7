import { setTimeout } from 'node:timers/promises';
import { type ServiceError, status } from '@grpc/grpc-js';
import { RetryInfo } from 'nice-grpc-error-details';
import { InvalidArgumentError } from '../errors';
import { detailOf } from './service-error';

/** How patiently a call is repeated that ended with UNAVAILABLE or DEADLINE_EXCEEDED. */
export interface RetryPolicy {
  /** How often the call is made at most, 1 to 100; 1: never repeated. Default 8. */
  readonly attempts?: number;
  /** The first wait is half to all of this, in milliseconds; each later one up to twice as long. Default 200. */
  readonly firstDelayMs?: number;
  /** Where the doubling ends, in milliseconds. Default 5000. The service may ask for more (RetryInfo). */
  readonly longestDelayMs?: number;
  /** No attempt begins later than this after the first one, in milliseconds. Default 30000. */
  readonly withinMs?: number;
}

/** What repeating takes; a part of CoinServiceAccess. */
export interface RetrySettings {
  readonly retry?: RetryPolicy;
  /** Default: a timer. */
  readonly sleep?: (ms: number) => Promise<void>;
  /** From 0 to 1, so that devices that failed together do not come back together. Default: Math.random. */
  readonly random?: () => number;
}

/** A restarting service, its database's recovery included, is back within a few seconds. */
const DEFAULTS: Required<RetryPolicy> = {
  attempts: 8,
  firstDelayMs: 200,
  longestDelayMs: 5_000,
  withinMs: 30_000,
};
const MAX_ATTEMPTS = 100;
const LONGEST_MS = 24 * 60 * 60_000;

/** A failed call, or a failed item of one. */
export interface Failure {
  readonly code: number;
  /** What the service asks to wait, in milliseconds. */
  readonly retryAfterMs?: number;
}

/** The attempts of one call. */
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

  /** Waits until the next attempt may be made. @returns false, at once, when there must not be one. */
  async again(failure: Failure): Promise<boolean> {
    const { attempts, firstDelayMs, longestDelayMs, withinMs } = this.#policy;
    if (!mayPass(failure.code) || this.#made >= attempts) return false;
    const most = Math.min(firstDelayMs * 2 ** (this.#made - 1), longestDelayMs);
    const delayMs = Math.max((most * (1 + this.#random())) / 2, failure.retryAfterMs ?? 0);
    if (performance.now() - this.#startMs + delayMs > withinMs) return false;
    this.#made += 1;
    await this.#sleep(delayMs);
    return true;
  }
}

/** Whether the same call may succeed later, and may have been carried out already. */
export function mayPass(code: number): boolean {
  return code === status.UNAVAILABLE || code === status.DEADLINE_EXCEEDED;
}

export function failureOf(error: ServiceError): Failure {
  const info = detailOf(error, 'RetryInfo');
  const delay = info && RetryInfo.decode(info).retryDelay;
  return { code: error.code, retryAfterMs: delay && delay.seconds * 1000 + delay.nanos / 1e6 };
}

/** Throws InvalidArgumentError naming the field. */
export function checkRetry({ retry = {} }: RetrySettings): void {
  const { attempts, ...times } = { ...DEFAULTS, ...retry };
  if (!Number.isInteger(attempts) || attempts < 1 || attempts > MAX_ATTEMPTS) {
    throw new InvalidArgumentError('retry.attempts', `must be a whole number from 1 to ${MAX_ATTEMPTS}`);
  }
  for (const [name, ms] of Object.entries(times)) {
    if (!(ms >= 0 && ms <= LONGEST_MS)) {
      throw new InvalidArgumentError(`retry.${name}`, `must be from 0 to ${LONGEST_MS}`);
    }
  }
}
