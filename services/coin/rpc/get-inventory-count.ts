import type { GetInventoryCountRequest, GetInventoryCountResponse } from '../../../gen/aqm/coin/v1/coin_service';
import { toInventoryCount } from '../coin';
import type { CoinInventoryServer } from '../store/coin-inventory-server';
import { ownDevice } from './own-device';
import type { Method } from './unary';
import { Violations } from './violations';

/** Serves GetInventoryCount. */
export function getInventoryCount(
  store: CoinInventoryServer,
): Method<GetInventoryCountRequest, GetInventoryCountResponse> {
  return async ({ deviceId }, caller, deadline) => {
    const violations = new Violations();
    violations.device('device_id', deviceId);
    violations.throwIfAny();
    const owner = { userId: caller.userId, deviceId: ownDevice(caller, deviceId) };
    const { available, epoch, serverTime } = await store.getInventoryCount(owner, deadline);
    return { available: toInventoryCount(available), databaseEpoch: epoch, serverTime };
  };
}
