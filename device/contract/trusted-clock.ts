import { isDate } from 'node:util/types';
import { ClockError, InvalidArgumentError } from '../errors';
import type { WarningListener } from '../warning';
import { DAY_MS } from './validate';

/** The default of `maxClockJumpMs`: one day. */
export const MAX_CLOCK_JUMP_MS = DAY_MS;
/** The trusted time is saved when it is this much later than the saved one, so that few writes pay for it. */
const SAVE_INTERVAL_MS = 60 * 60_000;

export interface ClockSettings {
  /** The device's clock. */
  readonly now: () => Date;
  /** The largest difference between the device's clock and the trusted time at which the clock is trusted. */
  readonly maxClockJumpMs?: number;
  readonly onWarning: WarningListener;
}

/** The times that one operation uses, in milliseconds since 1970. */
export interface Times {
  /**
   * The later one of the device's clock and the trusted time. What has expired by either is not used any more.
   */
  readonly nowMs: number;
  /**
   * The earlier one of the two. Only what has expired by both is deleted, so that a wrong clock destroys nothing.
   */
  readonly forgetMs: number;
  /** The trusted time. An id that was burned or used is remembered until it ends by this time. */
  readonly trustedMs: number;
}

/**
 * The clock of one storage. It compares the device's clock, which the user or an empty battery may set to any time, with
 * the trusted time: the latest time that the storage has seen from a trusted clock. A clock that differs from the
 * trusted time by more than `maxClockJumpMs` is not trusted until it was compared with another witness, the
 * `server_time` of the coin service (`confirm`).
 *
 * The storage keeps the trusted time. The engine passes it to `adopt`, and saves `unsavedMs`.
 */
export class TrustedClock {
  readonly #settings: ClockSettings;
  readonly #maxJumpMs: number;
  #trustedMs: number | null = null;
  #savedMs = Number.NEGATIVE_INFINITY;
  #hasWarned = false;

  constructor(settings: ClockSettings) {
    this.#settings = settings;
    this.#maxJumpMs = settings.maxClockJumpMs ?? MAX_CLOCK_JUMP_MS;
  }

  /** Reads the device's clock, in milliseconds since 1970. */
  deviceMs(): number {
    const date: unknown = this.#settings.now();
    // Dates of another realm are no instances. They are rare, and isDate costs a call out of JavaScript.
    const nowMs = date instanceof Date || isDate(date) ? date.getTime() : Number.NaN;
    if (Number.isNaN(nowMs)) throw new InvalidArgumentError('now', 'must return a valid Date');
    return nowMs;
  }

  /** Takes over the time that the storage keeps; null in a new storage, which trusts the device's clock as it is. */
  adopt(savedMs: number | null): void {
    if (savedMs === null) return;
    // Another process lowered it if it is less than the one that was saved or adopted before.
    const isLowered = this.#trustedMs === null || savedMs < this.#savedMs;
    if (isLowered || savedMs > (this.#trustedMs ?? savedMs)) this.#trustedMs = savedMs;
    this.#savedMs = savedMs;
  }

  /** True if the device's clock jumped away from the trusted time that this object knows, which may be an old one. */
  get hasJumped(): boolean {
    return this.#jumpOf(this.deviceMs()) !== 0;
  }

  /**
   * Returns the times for one operation. A clock that is trusted moves the trusted time forward. If it has jumped,
   * `readAgain` may call `adopt`, because another process may have trusted a later time since.
   */
  times(readAgain?: () => void): Times {
    const deviceMs = this.deviceMs();
    let jump = this.#jumpOf(deviceMs);
    if (jump !== 0 && readAgain !== undefined) {
      readAgain();
      jump = this.#jumpOf(deviceMs);
    }
    if (jump === 0) {
      this.#hasWarned = false;
      if (this.#trustedMs === null || deviceMs > this.#trustedMs) this.#trustedMs = deviceMs;
    } else if (!this.#hasWarned) {
      this.#hasWarned = true;
      this.#settings.onWarning({ code: 'AQM_CLOCK', message: this.#error(deviceMs).message });
    }
    const trustedMs = this.#trustedMs ?? deviceMs;
    return { nowMs: Math.max(deviceMs, trustedMs), forgetMs: Math.min(deviceMs, trustedMs), trustedMs };
  }

  /** The trusted time if it has to be saved, otherwise null. */
  get unsavedMs(): number | null {
    const trustedMs = this.#trustedMs;
    if (trustedMs === null) return null;
    return trustedMs < this.#savedMs || trustedMs - this.#savedMs >= SAVE_INTERVAL_MS ? trustedMs : null;
  }

  /** Must be called after the trusted time was saved. */
  saved(trustedMs: number): void {
    this.#savedMs = trustedMs;
  }

  /** Throws ClockError if the device's clock is not trusted. Must be called before anything is destroyed by time. */
  check(): void {
    const deviceMs = this.deviceMs();
    if (this.#jumpOf(deviceMs) !== 0) throw this.#error(deviceMs);
  }

  /** Throws ClockError if the clock is behind the trusted time, so that what is stored would get times of the past. */
  refuseBehind(): void {
    const deviceMs = this.deviceMs();
    if (this.#jumpOf(deviceMs) < 0) throw this.#error(deviceMs);
  }

  /**
   * Compares the device's clock with that of the coin service. If they agree, the device's clock is trusted, whatever it
   * was before. Otherwise throws ClockError, and the trusted time is at most that of the service from then on: an
   * earlier one destroys nothing.
   */
  confirm(serverMs: number): void {
    const deviceMs = this.deviceMs();
    if (Math.abs(deviceMs - serverMs) <= this.#maxJumpMs) {
      this.#trustedMs = deviceMs;
      // Saved in any case, for the other handles.
      this.#savedMs = Number.NEGATIVE_INFINITY;
      return;
    }
    if (this.#trustedMs === null || this.#trustedMs > serverMs) this.#trustedMs = serverMs;
    const error = new ClockError(new Date(deviceMs), new Date(serverMs), 'SERVICE');
    if (!this.#hasWarned) this.#settings.onWarning({ code: 'AQM_CLOCK', message: error.message });
    this.#hasWarned = true;
    throw error;
  }

  /** Returns 0 if the clock is trusted, otherwise how far it is ahead (positive) or behind (negative), in ms. */
  #jumpOf(deviceMs: number): number {
    const jump = deviceMs - (this.#trustedMs ?? deviceMs);
    return Math.abs(jump) <= this.#maxJumpMs ? 0 : jump;
  }

  #error(deviceMs: number): ClockError {
    return new ClockError(new Date(deviceMs), new Date(this.#trustedMs ?? deviceMs), 'STORAGE');
  }
}
