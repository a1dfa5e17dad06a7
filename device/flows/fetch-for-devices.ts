import { CoinServiceError } from '../../coin-client/coin-service-error';
import type { CoinCategoryName } from '../contract/coin-category';
import type { DeviceStorage } from '../contract/device-storage';
import type { DeviceSelection } from '../contract/inventory';
import type { ContactAddress } from '../contract/pending-requests';
import { checkDeviceIds, checkObject, ofDevice } from '../contract/validate';
import { InvalidArgumentError, type UnusableCoinError } from '../errors';
import { observeFlow } from '../telemetry/traced';
import { requireTrustedClock } from './confirm-clock';
import { type DeviceFind, fetchOncePerDevice } from './fetch-once-per-device';
import { checkFetchOptions, type FetchOptions } from './fetched-coin';
import { requireOwner } from './require-owner';
import { type CoinServiceAccess, checkAccess } from './service-call';

/** The parameters of fetchForDevices. */
export interface FetchForDevicesWish extends ContactAddress {
  readonly coinCategory: CoinCategoryName;
  /** Default false: only coins of the category itself. */
  readonly allowLowerCategories?: boolean;
  /**
   * 1 to 50 devices of the contact: UUIDs in any case, empty text for the unnamed device. Default: all devices that the
   * contact has.
   */
  readonly deviceIds?: readonly string[];
}

/** The coin that fetchForDevices got for one device. */
export interface DeviceFetch extends DeviceSelection {
  /**
   * Says why `coin` is null. Absent if the device has no such coin left. UnusableCoinError: the service gave a coin that
   * must not be used.
   */
  readonly error?: UnusableCoinError | CoinServiceError;
}

/** The maximum number of devices that a request names. */
const MAX_DEVICES = 50;

/**
 * Fetches one coin for each device of a contact for immediate use, so that a message can be encrypted for every device,
 * also of contacts whose coins are not cached. All devices share one stored `request_id`: after a lost response or a
 * crash, the next call with the same parameters gets the same coins. The request is closed and all its coins remembered
 * as used, in one atomic step, before they are returned, so that no crash uses a coin twice.
 *
 * A request that was left by an earlier call may be answered with the devices of that time. Therefore the present ones are
 * listed with it: devices that are gone are left out, and coins are fetched for those that were added.
 *
 * The call is repeated according to `service.retry`. Rejects with InvalidArgumentError, ClockError, an error of the
 * storage, or the CoinServiceError of the last attempt. The request then stays pending unless the service refused it
 * permanently. A coin that must not be used is the `error` of its device, and does not affect the others.
 * @returns one entry for each device, in the order of their ids, the unnamed one first. A device that the contact does
 * not have, or that was removed, is left out. Empty if the contact never published a coin.
 */
export async function fetchForDevices(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  wish: FetchForDevicesWish,
  options: FetchOptions = {},
): Promise<DeviceFetch[]> {
  checkAccess(service);
  checkObject('wish', wish);
  checkFetchOptions(options);
  return observeFlow(storage, 'fetch_for_devices', () => fetchForEach(storage, service, wish, options));
}

/** Does the work of fetchForDevices. The arguments other than `wish` were checked. */
export async function fetchForEach(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  { contactId, userId, coinCategory, allowLowerCategories = false, deviceIds: named }: FetchForDevicesWish,
  options: FetchOptions,
): Promise<DeviceFetch[]> {
  const deviceIds = named === undefined ? [] : checkNamed(named);
  const wish = { contactId, userId, coinCategory, allowLowerCategories };
  await requireOwner(storage, service, { bind: false });
  await requireTrustedClock(storage, service);
  const found = await fetchOncePerDevice({ storage, service, options }, { ...wish, deviceIds }, { fresh: false });
  // A pending request may bring coins that another process used, and does not know the devices that came since.
  const again = [...found].filter(([, { again }]) => again).map(([deviceId]) => deviceId);
  for (let start = 0; start < again.length; start += MAX_DEVICES) {
    const some = again.slice(start, start + MAX_DEVICES);
    const fresh = await fetchAgain(some);
    for (const deviceId of some) {
      const find = fresh.get(deviceId);
      if (find === undefined) found.delete(deviceId);
      else found.set(deviceId, find);
    }
  }
  return [...found]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([deviceId, { coin, error }]) => ({ ...ofDevice(deviceId), coin, ...(error !== undefined && { error }) }));

  /** The coins of the first request are closed and must be returned, so its failure is that of these devices only. */
  async function fetchAgain(some: readonly string[]): Promise<ReadonlyMap<string, DeviceFind>> {
    try {
      return await fetchOncePerDevice({ storage, service, options }, { ...wish, deviceIds: some }, { fresh: true });
    } catch (error) {
      if (!(error instanceof CoinServiceError)) throw error;
      return new Map(some.map((deviceId) => [deviceId, { coin: null, error, again: false }]));
    }
  }
}

/** Refuses an empty list: it would stand for all devices. */
function checkNamed(deviceIds: readonly string[]): string[] {
  const checked = checkDeviceIds('deviceIds', deviceIds);
  if (checked.length === 0 || checked.length > MAX_DEVICES) {
    throw new InvalidArgumentError('deviceIds', `must name 1 to ${MAX_DEVICES} devices; leave it out for all of them`);
  }
  return checked;
}
