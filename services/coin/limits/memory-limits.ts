import { type Charge, type Limits, longestRefillMs, ROUNDING_MS, refillMs } from './limits';

/**
 * Full budgets are removed whenever the number of budgets has doubled since the last removal, but
 * not below this number.
 */
const MIN_SWEEP_SIZE = 10_000;

/**
 * Keeps the budgets of this process alone, in memory: about 100 bytes for each that is not full.
 */
export class MemoryLimits implements Limits {
  readonly #now: () => number;
  /**
   * The time at which each budget will be full again, in milliseconds of the clock. Missing budgets
   * are full.
   */
  readonly #fullAt = new Map<string, number>();
  #sweepAt = MIN_SWEEP_SIZE;

  /** @param now a monotonic clock in milliseconds */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  async take(charges: readonly Charge[]): Promise<number> {
    const now = this.#now();
    let waitMs = 0;
    for (const charge of charges) {
      const { budget, rate, amount } = charge;
      const fullAt = Math.max(now, this.#fullAt.get(budget) ?? now) + refillMs(rate, amount);
      waitMs = Math.max(waitMs, fullAt - now - longestRefillMs(charge));
    }
    if (waitMs > ROUNDING_MS) return Math.ceil(waitMs);
    for (const charge of charges) this.#move(charge, now, 1);
    this.#sweep(now);
    return 0;
  }

  async refund(charges: readonly Charge[]): Promise<void> {
    const now = this.#now();
    for (const charge of charges) this.#move(charge, now, -1);
  }

  async owe(charges: readonly Charge[]): Promise<void> {
    const now = this.#now();
    for (const charge of charges) this.#move(charge, now, 1);
    this.#sweep(now);
  }

  async close(): Promise<void> {
    this.#fullAt.clear();
  }

  /** The number of budgets in memory. */
  get size(): number {
    return this.#fullAt.size;
  }

  #move({ budget, rate, amount }: Charge, now: number, direction: 1 | -1): void {
    const fullAt = Math.max(now, this.#fullAt.get(budget) ?? now) + direction * refillMs(rate, amount);
    if (fullAt > now) this.#fullAt.set(budget, fullAt);
    else this.#fullAt.delete(budget);
  }

  #sweep(now: number): void {
    if (this.#fullAt.size < this.#sweepAt) return;
    for (const [budget, fullAt] of this.#fullAt) if (fullAt <= now) this.#fullAt.delete(budget);
    this.#sweepAt = Math.max(MIN_SWEEP_SIZE, 2 * this.#fullAt.size);
  }
}
