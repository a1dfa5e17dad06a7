import type { History, Millis } from '../history';
import { STOCKED } from './coins';
import type { Removals } from './removals';
import { deviceName } from './requests';

interface Span {
  readonly start: Millis;
  readonly end: Millis;
}

/** Knows which devices a user may have had, and which the user certainly had. */
export class KnownDevices {
  /** For each user and device: the earliest upload, and the first one that was answered and stored a coin. */
  readonly #uploads = new Map<string, Map<string, { start: Millis; end: Millis }>>();
  readonly #removals: Removals;

  constructor({ calls }: History, removals: Removals) {
    this.#removals = removals;
    for (const call of calls) {
      if (call.kind !== 'upload' || call.isMismatched) continue;
      const devices = this.#uploads.get(call.userId) ?? new Map<string, { start: Millis; end: Millis }>();
      this.#uploads.set(call.userId, devices);
      const known = devices.get(call.deviceId) ?? { start: call.start, end: Number.POSITIVE_INFINITY };
      devices.set(call.deviceId, known);
      known.start = Math.min(known.start, call.start);
      if (call.outcomes?.some((outcome) => STOCKED.includes(outcome))) known.end = Math.min(known.end, call.end);
    }
  }

  /**
   * Returns what is wrong with a list of devices that was made during `span`.
   * @param asked the devices that it may contain; none: all of the user
   */
  wrongList(listed: readonly string[], asked: readonly string[], userId: string, { start, end }: Span): string[] {
    const wrong: string[] = [];
    const devices = this.#uploads.get(userId) ?? new Map<string, Span>();
    listed.forEach((deviceId, index) => {
      const name = deviceName(userId, deviceId);
      const previous = listed[index - 1];
      if (previous !== undefined && previous >= deviceId) wrong.push(`listed ${name} twice, or out of order`);
      const uploadedAt = devices.get(deviceId)?.start ?? Number.POSITIVE_INFINITY;
      if (uploadedAt > end) wrong.push(`listed ${name}, which never uploaded`);
      if (asked.length > 0 && !asked.includes(deviceId)) wrong.push(`listed ${name}, which was not asked for`);
    });
    for (const [deviceId, upload] of devices) {
      if (upload.end >= start || this.#removals.mayHaveBegun({ userId, deviceId, end })) continue;
      if (listed.includes(deviceId) || (asked.length > 0 && !asked.includes(deviceId))) continue;
      wrong.push(`left out ${deviceName(userId, deviceId)}`);
    }
    return wrong;
  }
}
