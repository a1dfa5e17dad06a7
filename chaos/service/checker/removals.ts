import type { History, Millis } from '../history';

/** Knows when devices were removed. */
export class Removals {
  readonly #removals = new Map<string, { start: Millis; end: Millis }>();

  constructor({ calls }: History) {
    for (const call of calls) {
      if (call.kind !== 'remove') continue;
      const key = `${call.userId} ${call.deviceId}`;
      const known = this.#removals.get(key);
      const end = call.failure ? Number.POSITIVE_INFINITY : call.end;
      this.#removals.set(key, {
        start: Math.min(known?.start ?? Number.POSITIVE_INFINITY, call.start),
        end: Math.min(known?.end ?? Number.POSITIVE_INFINITY, end),
      });
    }
  }

  /** Returns the time from which the device is certainly removed; infinite: perhaps never. */
  endOf(userId: string, deviceId: string): Millis {
    return this.#removals.get(`${userId} ${deviceId}`)?.end ?? Number.POSITIVE_INFINITY;
  }

  /** True if the removal of the device may have taken effect at `end`. */
  mayHaveBegun({ userId, deviceId, end }: { userId: string; deviceId: string; end: Millis }): boolean {
    return (this.#removals.get(`${userId} ${deviceId}`)?.start ?? Number.POSITIVE_INFINITY) <= end;
  }

  /** The number of devices that were certainly removed. */
  get count(): number {
    return [...this.#removals.values()].filter(({ end }) => end !== Number.POSITIVE_INFINITY).length;
  }
}
