import type { GetInventoryCountRequest, GetInventoryCountResponse } from '../../../gen/aqm/coin/v1/coin_service';
import { toInventoryCount } from '../coin';
import type { CoinInventoryServer } from '../store/coin-inventory-server';
import type { Method } from './unary';

/** Serves GetInventoryCount. */
export function getInventoryCount(
  store: CoinInventoryServer,
): Method<GetInventoryCountRequest, GetInventoryCountResponse> {
  return async (_request, caller, deadline) => {
    const { available, epoch, serverTime } = await store.getInventoryCount(caller.userId, deadline);
    return { available: toInventoryCount(available), databaseEpoch: epoch, serverTime };
  };
}
