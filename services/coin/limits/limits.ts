import type { Rate } from '../config';

/** An amount that a call wants from one budget; at most the budget's burst. */
export interface Charge {
  /** Names the budget, such as `fetch:<requester>:<target>`. */
  readonly budget: string;
  readonly rate: Rate;
  readonly amount: number;
}

/**
 * Budgets that refill over time (token buckets). The state of a budget is the time at which it will be full again; one
 * that is full needs no memory.
 */
export interface Limits {
  /**
   * Takes every charge, or none of them when one budget has too little. No budget is charged twice in one call.
   * @returns 0 when they were taken, else the milliseconds until all of them could be
   * @throws LimitsUnavailableError
   */
  take(charges: readonly Charge[]): Promise<number>;
  /** Puts amounts back that were taken and not used. Never fails: what cannot be put back refills over time. */
  giveBack(charges: readonly Charge[]): Promise<void>;
  close(): Promise<void>;
}

const HOUR_MS = 3_600_000;

/** A wait that is shorter comes from sums of fractions, which are not exact; in milliseconds. */
export const ROUNDING_MS = 0.01;

/** Milliseconds in which a budget refills by `amount`. */
export function refillMs({ perHour }: Rate, amount: number): number {
  return (amount * HOUR_MS) / perHour;
}
