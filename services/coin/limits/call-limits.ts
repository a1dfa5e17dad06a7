import type { Rate } from '../config';
import { RateLimitedError } from '../errors';
import type { LimitHits } from './limit-hits';
import { ROUNDING_MS, refillMs } from './limits';
import { RefusalDelay } from './refusal-delay';

/** The cost of one more element of a batch, in calls: it shares its statement, so five cost about as much as a call. */
const CALLS_PER_ITEM = 1 / 5;
/**
 * The additional cost of a request that could not be decoded, in calls: up to 1 MiB was received and read for nothing,
 * which no honest client causes.
 */
const CALLS_PER_MALFORMED = 20;
/**
 * Failed verifications of tokens from one address, at first and then 50 in a second. Each takes 0.24 ms of processor
 * time, so an address gets 1.2 % of a core. Addresses that many users share (NAT, a proxy) get through as well: only
 * failures count, and while the budget is empty each new token has a chance of 50 in those that arrive.
 */
const FAILED_TOKENS: Rate = { perHour: 50 * 3600, burst: 100 };
/**
 * Calls of one address that fail because they have no valid token, or because there is no such method, at first and then in
 * a second: others are answered late. Each takes 0.2 ms.
 */
const ANONYMOUS: Rate = { perHour: 50 * 3600, burst: 100 };
/** Verifications of tokens from one address at the same time: so many more than the budget may fail. */
const MAX_VERIFICATIONS = 16;
/**
 * Answers of server reflection to one address, at first and then 50 in a second. It needs no token; an answer of 22 KB takes
 * 0.3 ms, so an address gets 1.5 % of a core.
 */
const REFLECTION: Rate = { perHour: 50 * 3600, burst: 100 };
/** The longest time for which a question of reflection waits for its answer, in milliseconds. */
const MAX_REFLECTION_WAIT_MS = 5000;
/** No caller may have more than this part of AQM_MAX_CALLS in flight. */
export const SHARE_OF_CALLS = 1 / 8;

/**
 * Limits the calls of each caller, and the forged tokens of each address. The budgets are those of this process, also
 * where a Redis shares those of coins: what they protect is the process itself, and a call must not wait for Redis.
 */
export class CallLimits {
  readonly #hits: LimitHits;
  readonly #callers: LocalBudgets;
  readonly #addresses: LocalBudgets;
  readonly #anonymous: LocalBudgets;
  readonly #reflection: LocalBudgets;
  readonly #refusals = new RefusalDelay();

  /** @param now a monotonic clock in milliseconds */
  constructor(perCaller: Rate, hits: LimitHits, now: () => number = () => performance.now()) {
    this.#hits = hits;
    this.#callers = new LocalBudgets(perCaller, now);
    this.#addresses = new LocalBudgets(FAILED_TOKENS, now);
    this.#anonymous = new LocalBudgets(ANONYMOUS, now);
    this.#reflection = new LocalBudgets(REFLECTION, now);
  }

  /** Takes one call from its caller's budget. @throws RateLimitedError */
  admit(userId: string): void {
    const waitMs = this.#callers.waitMs(userId);
    if (waitMs > 0) throw this.#refusal('call', waitMs, 'calls');
    this.#callers.charge(userId, 1);
  }

  /** Charges an admitted call of several items. What is missing in the budget is owed. */
  chargeItems(userId: string, items: number): void {
    if (items > 1) this.#callers.charge(userId, (items - 1) * CALLS_PER_ITEM);
  }

  /** Charges an admitted call whose request could not be decoded. */
  chargeMalformed(userId: string): void {
    this.#callers.charge(userId, CALLS_PER_MALFORMED);
  }

  /**
   * Counts a call in flight, until `leave` is called for its caller.
   * @throws RateLimitedError if the caller has `maxInFlight` already
   */
  enter(userId: string, maxInFlight: number): void {
    const entry = this.#callers.entryOf(userId);
    if (entry.inFlight >= maxInFlight) throw this.#refusal('concurrency', 1000, 'calls at the same time');
    entry.inFlight += 1;
  }

  /** Must be paired with `enter`. */
  leave(userId: string): void {
    this.#callers.entryOf(userId).inFlight -= 1;
  }

  /**
   * Waits until one more signature of a token from this address may be verified. Must be followed by
   * `endVerification` unless it rejects.
   * @throws RateLimitedError if too many tokens of this address were invalid
   */
  async beginVerification(address: string): Promise<void> {
    this.#refuseInvalid(address);
    const entry = this.#addresses.entryOf(address);
    while (entry.inFlight >= MAX_VERIFICATIONS) {
      await new Promise<void>((resolve) => {
        entry.waiting ??= [];
        entry.waiting.push(resolve);
      });
      try {
        this.#refuseInvalid(address);
      } catch (error) {
        entry.waiting?.shift()?.();
        throw error;
      }
    }
    entry.inFlight += 1;
  }

  /** Ends what `beginVerification` began. An invalid token is charged to the address that sent it. */
  endVerification(address: string, isInvalid: boolean): void {
    const entry = this.#addresses.entryOf(address);
    entry.inFlight -= 1;
    if (isInvalid) this.#addresses.charge(address, 1);
    entry.waiting?.shift()?.();
  }

  /** Ends when a call over a limit may be refused. */
  delayRefusal(): Promise<void> {
    return this.#refusals.wait();
  }

  /**
   * Counts a call without a valid token, or of no method.
   * @returns undefined, or what its refusal has to wait for if there are too many of its address
   */
  delayAnonymous(address: string): Promise<void> | undefined {
    if (this.#anonymous.waitMs(address) > 0) {
      this.#hits.add('anonymous', address);
      return this.#refusals.wait();
    }
    this.#anonymous.charge(address, 1);
    return undefined;
  }

  /**
   * Takes one answer of server reflection from the budget of an address.
   * @returns the time after which it may be given, in milliseconds: a client that asks too much waits in its stream
   * @throws RateLimitedError if too many answers to this address are waiting
   */
  admitReflection(address: string): number {
    const waitMs = this.#reflection.waitMs(address);
    if (waitMs > MAX_REFLECTION_WAIT_MS) {
      throw this.#refusal('reflection', waitMs, 'questions of server reflection from this address', address);
    }
    if (waitMs > 0) this.#hits.add('reflection', address);
    this.#reflection.charge(address, 1);
    return waitMs;
  }

  #refuseInvalid(address: string): void {
    const waitMs = this.#addresses.waitMs(address);
    if (waitMs > 0) throw this.#refusal('token', waitMs, 'invalid tokens of this address', address);
  }

  #refusal(
    limit: Parameters<LimitHits['add']>[0],
    waitMs: number,
    limited: string,
    network?: string,
  ): RateLimitedError {
    this.#hits.add(limit, network);
    // Thousands may be refused in a second, and a stack trace, which is not used, is a quarter of their cost.
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0;
    try {
      return new RateLimitedError(waitMs, limited);
    } finally {
      Error.stackTraceLimit = stackTraceLimit;
    }
  }
}

interface Entry {
  /** The time at which the budget will be full again, in milliseconds of the clock. */
  fullAt: number;
  inFlight: number;
  /** Those that wait until less is in flight. */
  waiting?: (() => void)[];
}

/** Entries that say nothing any more are removed whenever their number has doubled, but not below this number. */
const MIN_SWEEP_SIZE = 10_000;

/**
 * Budgets of one rate that refill over time (GCRA, as in `Limits`), and counts of what is in flight. An entry stays for
 * as long as it says something, so that a call adds and removes no members of the Map (linked-list.ts says why).
 */
class LocalBudgets {
  readonly #rate: Rate;
  readonly #now: () => number;
  readonly #entries = new Map<string, Entry>();
  #sweepAt = MIN_SWEEP_SIZE;

  constructor(rate: Rate, now: () => number) {
    this.#rate = rate;
    this.#now = now;
  }

  entryOf(key: string): Entry {
    let entry = this.#entries.get(key);
    if (!entry) {
      this.#sweep();
      entry = { fullAt: 0, inFlight: 0 };
      this.#entries.set(key, entry);
    }
    return entry;
  }

  /** Returns 0 if there is 1 in the budget, else the milliseconds until there is. */
  waitMs(key: string): number {
    const entry = this.#entries.get(key);
    if (!entry) return 0;
    const waitMs = entry.fullAt - this.#now() - refillMs(this.#rate, this.#rate.burst - 1);
    return waitMs > ROUNDING_MS ? Math.ceil(waitMs) : 0;
  }

  /** Takes an amount, also if the budget has less: the rest is owed. */
  charge(key: string, amount: number): void {
    const entry = this.entryOf(key);
    entry.fullAt = Math.max(this.#now(), entry.fullAt) + refillMs(this.#rate, amount);
  }

  #sweep(): void {
    if (this.#entries.size < this.#sweepAt) return;
    const now = this.#now();
    for (const [key, { fullAt, inFlight }] of this.#entries) {
      if (fullAt <= now && inFlight === 0) this.#entries.delete(key);
    }
    this.#sweepAt = Math.max(MIN_SWEEP_SIZE, 2 * this.#entries.size);
  }
}
