import { DAY_MS } from '../contract/validate';

/**
 * The server keeps a key this much longer than its stored expiry. A TTL is a duration counted by the server's clock, so
 * a device clock that is wrong by any amount makes no key vanish early. A device clock that runs slow by less than this
 * loses no key either.
 */
const MARGIN_MS = DAY_MS;
/** The longest TTL: a thousand years. PEXPIRE refuses times beyond 2^63 ms. */
const MAX_TTL_MS = 365_250 * DAY_MS;

/** Returns the TTL of a key in milliseconds. */
export function ttlMs(expiresAtMs: number, nowMs: number): number {
  return Math.min(Math.max(0, expiresAtMs - nowMs) + MARGIN_MS, MAX_TTL_MS);
}
