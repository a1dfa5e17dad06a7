import type { FetchCoinsRequest, FetchCoinsResponse } from '../../../gen/aqm/coin/v1/coin_service';
import { LIMITS, toDeviceId } from '../coin';
import type { CoinLimits } from '../limits/coin-limits';
import type { CoinFetch } from '../store/claim/fetch-coins';
import type { CoinInventoryServer } from '../store/coin-inventory-server';
import type { Method } from './unary';
import { Violations } from './violations';

/** Serves FetchCoins. */
export function fetchCoins(
  store: CoinInventoryServer,
  limits: CoinLimits,
): Method<FetchCoinsRequest, FetchCoinsResponse> {
  return async (request, caller, deadline) => {
    store.deletedUsers.refuse(caller);
    const answer = await limits.fetchOne(caller.userId, validateFetch(request), (fetch) =>
      store.fetchOne(caller.userId, fetch, deadline),
    );
    if ('error' in answer) throw answer.error;
    return answer;
  };
}

/** Validates one fetch and normalizes its UUIDs to lower case. @throws InvalidFieldError */
export function validateFetch(request: FetchCoinsRequest): CoinFetch {
  const violations = new Violations();
  violations.uuid('target_user_id', request.targetUserId);
  violations.category('coin_category', request.coinCategory);
  violations.range('count', request.count, 1, LIMITS.coinsPerFetch);
  if (request.requestId !== '') violations.uuid('request_id', request.requestId);
  violations.device('device_id', request.deviceId);
  violations.throwIfAny();
  return {
    targetUserId: request.targetUserId.toLowerCase(),
    deviceId: toDeviceId(request.deviceId),
    coinCategory: request.coinCategory,
    count: request.count,
    requestId: request.requestId.toLowerCase() || undefined,
    allowLowerCategories: request.allowLowerCategories,
  };
}
