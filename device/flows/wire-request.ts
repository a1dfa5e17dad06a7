import { invalidAnswer } from '../../coin-client/unary-call';
import type { DeviceCoins, DeviceCoinsRequest, FetchCoinsRequest } from '../../gen/aqm/coin/v1/coin_service';
import { specOf } from '../contract/coin-category';
import type { PendingRequest } from '../contract/pending-requests';
import { checkDeviceIds, UNNAMED } from '../contract/validate';

/** Converts a request for the coins of one device. The same request always gives the same message. */
export function toFetchCoins(request: PendingRequest): FetchCoinsRequest {
  return { ...common(request), deviceId: request.deviceId ?? UNNAMED };
}

/** Converts a request for coins of several devices. The same request always gives the same message. */
export function toDeviceCoins(request: PendingRequest): DeviceCoinsRequest {
  return { ...common(request), deviceIds: [...(request.deviceIds ?? [])] };
}

function common({ userId, coinCategory, count, requestId, allowLowerCategories }: PendingRequest) {
  const { category } = specOf(coinCategory);
  return { targetUserId: userId, coinCategory: category, count, requestId, allowLowerCategories };
}

/** Returns the item of FetchDeviceCoins that lists the devices of a user, and hands out nothing. */
export function toDeviceList(userId: string): DeviceCoinsRequest {
  return {
    targetUserId: userId,
    coinCategory: specOf('GOLD').category,
    count: 0,
    deviceIds: [],
    allowLowerCategories: false,
    requestId: '',
  };
}

/**
 * Returns the ids of the devices of an answer, in lower case, sorted, the empty one for the unnamed device. Throws
 * CoinServiceError if one of them is no device id.
 */
export function deviceIdsOf(devices: readonly DeviceCoins[]): string[] {
  try {
    return checkDeviceIds(
      'device_id',
      devices.map(({ deviceId }) => deviceId),
    );
  } catch {
    throw invalidAnswer('The coin service answered a list of devices that is too long or has an id that is no UUID.');
  }
}
