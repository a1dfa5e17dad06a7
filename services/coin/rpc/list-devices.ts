import type { ListDevicesRequest, ListDevicesResponse } from '../../../gen/aqm/coin/v1/coin_service';
import { LIMITS, toDeviceText, toInventoryCount } from '../coin';
import type { CoinLimits } from '../limits/coin-limits';
import type { CoinInventoryServer } from '../store/coin-inventory-server';
import type { Method } from './unary';

/** Serves ListDevices. It counts the stock of every device, and is charged as so many items of a batch. */
export function listDevices(
  store: CoinInventoryServer,
  limits: CoinLimits,
): Method<ListDevicesRequest, ListDevicesResponse> {
  return async (_request, caller, deadline) => {
    limits.calls?.chargeItems(caller.userId, LIMITS.devicesPerUser);
    const devices = await store.listDevices(caller.userId, deadline);
    return {
      devices: devices.map(({ deviceId, available, lastUploadTime }) => ({
        deviceId: toDeviceText(deviceId),
        available: toInventoryCount(available),
        lastUploadTime,
      })),
    };
  };
}
