import type { DeleteUserRequest, DeleteUserResponse } from '../../../gen/aqm/coin/v1/coin_admin_service';
import { ScopeMissingError } from '../errors';
import type { CoinInventoryServer } from '../store/coin-inventory-server';
import type { Method } from './unary';
import { Violations } from './violations';

/** Serves DeleteUser of the admin service. */
export function deleteUser(store: CoinInventoryServer): Method<DeleteUserRequest, DeleteUserResponse> {
  return async (request, caller, deadline) => {
    if (!caller.isAdmin) throw new ScopeMissingError('admin');
    const violations = new Violations();
    violations.uuid('user_id', request.userId);
    violations.throwIfAny();
    return { deletedCount: BigInt(await store.deleteUser(request.userId.toLowerCase(), deadline)) };
  };
}
