import type { Rate } from '../config';

/**
 * An amount that a call takes from one budget. One that is larger than the burst is taken from a full budget, which then
 * takes longer to refill: otherwise a fetch of 20 coins would be impossible where the burst is 10.
 */
export interface Charge {
  /** Name of the budget, such as `pair:<requester>:<target>`. */
  readonly budget: string;
  readonly rate: Rate;
  readonly amount: number;
}

/**
 * Budgets that refill over time (token buckets). The state of a budget is the time at which it will
 * be full again (GCRA, generic cell rate algorithm), so a full budget needs no memory.
 * docs/adr/0017-rate-limits.md says why this is not a library.
 */
export interface Limits {
  /**
   * Takes all charges, or none if one budget has too little. A call must not name a budget twice.
   * @returns 0 if they were taken, else the milliseconds until all of them could be
   * @throws LimitsUnavailableError
   */
  take(charges: readonly Charge[]): Promise<number>;
  /**
   * Refunds amounts that were taken and not used. Never rejects: what cannot be refunded refills
   * over time.
   */
  refund(charges: readonly Charge[]): Promise<void>;
  /**
   * Takes amounts also from budgets that have less: the rest is owed, and later calls wait until it has refilled. It is for
   * what was not known when the call began. Never rejects.
   */
  owe(charges: readonly Charge[]): Promise<void>;
  close(): Promise<void>;
}

const HOUR_MS = 3_600_000;

/** Shorter waits are floating-point rounding errors and count as none; in milliseconds. */
export const ROUNDING_MS = 0.01;

/** Returns how far in the future a budget may be full after this charge, in milliseconds. */
export function longestRefillMs({ rate, amount }: Charge): number {
  return refillMs(rate, Math.max(rate.burst, amount));
}

/** Returns the time in which a budget refills by `amount`, in milliseconds. */
export function refillMs({ perHour }: Rate, amount: number): number {
  return (amount * HOUR_MS) / perHour;
}
