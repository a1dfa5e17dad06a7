import {
  type ReconcileCoinsRequest,
  type ReconcileCoinsResponse,
  CoinStateResult_State as State,
} from '../../../gen/aqm/coin/v1/coin_service';
import { LIMITS } from '../coin';
import type { CoinLimits } from '../limits/coin-limits';
import type { CoinInventoryServer } from '../store/coin-inventory-server';
import type { VaultListing } from '../store/reconcile-coins';
import { ownDevice } from './own-device';
import { AFTER_1970, isAfter1970 } from './times';
import type { Method } from './unary';
import { Violations } from './violations';

/** Serves ReconcileCoins. */
export function reconcileCoins(
  store: CoinInventoryServer,
  limits: CoinLimits,
): Method<ReconcileCoinsRequest, ReconcileCoinsResponse> {
  return async (request, caller, deadline) => {
    const listing = validate(request);
    const owner = { userId: caller.userId, deviceId: ownDevice(caller, request.deviceId) };
    const { states, retiredCount, epoch } = await limits.reconcile(caller.userId, () =>
      store.reconcileCoins(owner, listing, request.databaseEpoch.toLowerCase(), deadline),
    );
    return {
      results: listing.keyIds.map((keyId, index) => ({ keyId, state: states[index] ?? State.STATE_UNSPECIFIED })),
      retiredCount,
      databaseEpoch: epoch,
    };
  };
}

/**
 * Validates all but one rule: the store refuses a listed_at in the future, by the clock that
 * server_time came from.
 */
function validate(request: ReconcileCoinsRequest): VaultListing {
  const { coinCategory, keyIds, complete, listedAt, databaseEpoch, deviceId } = request;
  const violations = new Violations();
  violations.category('coin_category', coinCategory);
  violations.listSize('key_ids', keyIds.length, LIMITS.idsPerReconcile, 0);
  if (databaseEpoch !== '') violations.uuid('database_epoch', databaseEpoch);
  violations.device('device_id', deviceId);
  if (listedAt !== undefined && !isAfter1970(listedAt)) violations.add('listed_at', AFTER_1970);
  if (complete && listedAt === undefined) violations.add('listed_at', 'must be set when complete is');
  violations.throwIfAny();
  keyIds.forEach((keyId, index) => {
    violations.uuid(`key_ids[${index}]`, keyId);
  });
  violations.throwIfAny();
  return { coinCategory, keyIds: keyIds.map((keyId) => keyId.toLowerCase()), complete, listedAt };
}
