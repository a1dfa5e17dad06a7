/** The promises that are checked, in the order of the verdict table. */
export const PROMISES = {
  once: 'no coin is handed out to two requests',
  spent: 'a coin that was handed out is never in stock again and is refused at upload',
  repeat: 'a repeat within the grace gets the same coins',
  short: 'no short answer while coins remained that no call in flight could hold',
  conservation: 'uploaded = in stock + fetched + purged + retired',
  order: 'oldest first, higher categories first',
  removed: 'no coin of a removed device is handed out, and none is stored',
  devices: 'devices do not touch each other; a fetch answers for the devices that it asked for',
  available: 'no call fails while every component is up; every failure is explained by a fault',
} as const;

export type Promised = keyof typeof PROMISES;

/** One violation of a promise, as a sentence that names the coins and calls concerned. */
export interface Breach {
  readonly promise: Promised;
  readonly what: string;
}

/** The result of one check. */
export interface Finding {
  readonly promise: Promised;
  /** The number of things that were checked, and what they are. */
  readonly checked: number;
  readonly unit: string;
  readonly breaches: readonly string[];
}
