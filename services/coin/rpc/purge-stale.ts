import type { PurgeStaleRequest, PurgeStaleResponse } from '../../../gen/aqm/coin/v1/coin_admin_service';
import { LIMITS, STALE_AFTER_DAYS } from '../coin';
import { ScopeMissingError } from '../errors';
import type { CoinInventoryServer } from '../store/coin-inventory-server';
import type { Method } from './unary';
import { Violations } from './violations';

/** Serves PurgeStale of the admin service. */
export function purgeStale(store: CoinInventoryServer): Method<PurgeStaleRequest, PurgeStaleResponse> {
  return async (request, caller, deadline) => {
    if (!caller.isAdmin) throw new ScopeMissingError('admin');
    const violations = new Violations();
    violations.range('max_age_days', request.maxAgeDays, 0, LIMITS.maxAgeDays);
    violations.throwIfAny();
    return { deletedCount: BigInt(await store.purgeStale(request.maxAgeDays || STALE_AFTER_DAYS, deadline)) };
  };
}
