import { withLowerCategories } from '../contract/coin-category';
import type { DeviceStorage } from '../contract/device-storage';
import type { InventoryCoin } from '../contract/inventory';
import type { OnDemandWish } from '../contract/pending-requests';
import { observeFlow } from '../telemetry/traced';
import { readFetchedCoin } from './fetched-coin';
import { type CoinServiceAccess, callService, checkAccess } from './service-call';
import { isFinal, isServiceError } from './service-error';
import { toWire } from './top-up';

export interface FetchOnDemandWish extends Omit<OnDemandWish, 'allowLowerCategories'> {
  /** Default false: only a coin of the category itself. */
  readonly allowLowerCategories?: boolean;
}

/**
 * Fetches one coin to use it at once, for contacts whose coins are not cached. Its `request_id` is on disk before the
 * call, so that the coin of a lost reply is asked for again by the next call for the same contact and parameters; and
 * it is closed, with the coin remembered as used, before the coin is returned, so that no crash uses a coin twice.
 *
 * @returns null when the service has no such coin.
 * The call is repeated as `service.retry` says. Rejects with InvalidArgumentError, the storage's errors, or the
 * ServiceError of a call that failed to the end as it is; the request then stays open, unless the service refused it
 * for good.
 */
export async function fetchOnDemand(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  wish: FetchOnDemandWish,
): Promise<InventoryCoin | null> {
  checkAccess(service);
  return observeFlow(storage, 'fetch_on_demand', () => fetchOne(storage, service, wish));
}

async function fetchOne(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  { contactId, userId, coinCategory, allowLowerCategories = false }: FetchOnDemandWish,
): Promise<InventoryCoin | null> {
  const wish = { contactId, userId, coinCategory, allowLowerCategories };
  // An open request may bring a coin that another process used or that expired meanwhile; a fresh one cannot.
  for (const fresh of [false, true]) {
    const request = await storage.pendingRequests.openOnDemand(wish, { fresh });
    try {
      const { coins } = await callService(service, service.client.fetchCoins, toWire(request), {
        beforeRepeat: () => storage.pendingRequests.askAgain([request]),
      });
      const [first] = coins;
      if (first === undefined) {
        await storage.pendingRequests.settleOnDemand(request, null);
        return null;
      }
      const allowed = allowLowerCategories ? withLowerCategories(coinCategory) : [coinCategory];
      const coin = readFetchedCoin(contactId, first, allowed);
      if (coin === null) await storage.pendingRequests.abandon(request);
      else if (await storage.pendingRequests.settleOnDemand(request, coin)) return coin;
    } catch (error) {
      if (isServiceError(error) && isFinal(error.code)) await storage.pendingRequests.abandon(request);
      throw error;
    } finally {
      await storage.pendingRequests.release(request);
    }
  }
  return null;
}
