import { toDeviceId } from '../coin';
import { DeviceMismatchError } from '../errors';
import type { Caller } from '../identity/caller';

/**
 * Returns the id in the database of the device for which a call acts: the one of the token, else the
 * one of the request.
 * @param requested `device_id` of the request, which was validated; empty: the request names none
 * @throws DeviceMismatchError if the two differ
 */
export function ownDevice({ deviceId }: Caller, requested: string): string {
  if (deviceId === undefined) return toDeviceId(requested);
  if (requested !== '' && requested.toLowerCase() !== deviceId) throw new DeviceMismatchError();
  return deviceId;
}
