import { DAY_MS } from '../contract/validate';

/**
 * How much longer than its stored end the server keeps a key. A TTL is a duration counted by the server's clock, so a
 * device clock that is wrong by any amount makes no key vanish early; one that runs slow by less than this loses none
 * either.
 */
const MARGIN_MS = DAY_MS;
/** PEXPIRE refuses a moment beyond 2^63 ms; a thousand years are as good as none. */
const LONGEST_MS = 365_250 * DAY_MS;

export function ttlMs(expiresAtMs: number, nowMs: number): number {
  return Math.min(Math.max(0, expiresAtMs - nowMs) + MARGIN_MS, LONGEST_MS);
}
