import { type Charge, type Limits, ROUNDING_MS, refillMs } from './limits';

/** Budgets are looked through for full ones when their number has doubled since the last time, and not below this. */
const SWEEP_FROM = 10_000;

/** Budgets of this process alone. Takes some 100 bytes for each that is not full. */
export class MemoryLimits implements Limits {
  readonly #now: () => number;
  /** When each budget will be full again, in milliseconds of the clock; those that are missing are full. */
  readonly #fullAt = new Map<string, number>();
  #sweepAt = SWEEP_FROM;

  /** @param now a clock in milliseconds that never goes back */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  async take(charges: readonly Charge[]): Promise<number> {
    const now = this.#now();
    let waitMs = 0;
    for (const { budget, rate, amount } of charges) {
      const fullAt = Math.max(now, this.#fullAt.get(budget) ?? now) + refillMs(rate, amount);
      waitMs = Math.max(waitMs, fullAt - now - refillMs(rate, rate.burst));
    }
    if (waitMs > ROUNDING_MS) return Math.ceil(waitMs);
    for (const charge of charges) this.#move(charge, now, 1);
    this.#sweep(now);
    return 0;
  }

  async giveBack(charges: readonly Charge[]): Promise<void> {
    const now = this.#now();
    for (const charge of charges) this.#move(charge, now, -1);
  }

  async close(): Promise<void> {
    this.#fullAt.clear();
  }

  /** How many budgets are remembered. */
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
    this.#sweepAt = Math.max(SWEEP_FROM, 2 * this.#fullAt.size);
  }
}
