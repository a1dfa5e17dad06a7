/** The promises that a history is held against, in the order of the verdict table. */
export const PROMISES = {
  once: 'no coin to two requests',
  spent: 'what was handed out is spent: never in stock again, refused at upload',
  repeat: 'a repeat within the grace gets the same coins',
  short: 'no short answer while coins remained that nobody in flight could hold',
  conservation: 'uploaded = in stock + fetched + purged + retired',
  order: 'oldest first, higher categories first',
  available: 'no call fails while every part is up; no failure that a fault does not explain',
} as const;

export type Promised = keyof typeof PROMISES;

/** One broken promise, in a sentence that names the coins and calls concerned. */
export interface Breach {
  readonly promise: Promised;
  readonly what: string;
}

/** What one check looked at and found. */
export interface Finding {
  readonly promise: Promised;
  /** How many things were held against the promise, and what they are. */
  readonly checked: number;
  readonly unit: string;
  readonly breaches: readonly string[];
}
