import type { HardDeleteFetchedRequest, HardDeleteFetchedResponse } from '../../../gen/aqm/coin/v1/coin_admin_service';
import { LIMITS } from '../coin';
import { ScopeMissingError } from '../errors';
import type { CoinInventoryServer } from '../store/coin-inventory-server';
import type { Method } from './unary';
import { Violations } from './violations';

/** Serves HardDeleteFetched of the admin service. */
export function hardDeleteFetched(
  store: CoinInventoryServer,
): Method<HardDeleteFetchedRequest, HardDeleteFetchedResponse> {
  return async (request, caller, deadline) => {
    if (!caller.isAdmin) throw new ScopeMissingError('admin');
    const violations = new Violations();
    violations.range('grace_hours', request.graceHours, 0, LIMITS.graceHours);
    violations.throwIfAny();
    return { deletedCount: BigInt(await store.hardDeleteFetched(request.graceHours * 3600, deadline)) };
  };
}
