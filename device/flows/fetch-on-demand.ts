import { CoinServiceError } from '../../coin-client/coin-service-error';
import { withLowerCategories } from '../contract/coin-category';
import type { DeviceStorage } from '../contract/device-storage';
import type { InventoryCoin } from '../contract/inventory';
import type { OnDemandWish } from '../contract/pending-requests';
import { observeFlow } from '../telemetry/traced';
import { checkFreshCoins, requireTrustedClock } from './confirm-clock';
import { readFetchedCoin } from './fetched-coin';
import { isFinal } from './retries';
import { type CoinServiceAccess, callService, checkAccess } from './service-call';
import { toWire } from './top-up';

/** The parameters of fetchOnDemand. */
export interface FetchOnDemandWish extends Omit<OnDemandWish, 'allowLowerCategories'> {
  /** Default false: only a coin of the category itself. */
  readonly allowLowerCategories?: boolean;
}

/**
 * Fetches one coin for immediate use, for contacts whose coins are not cached. The `request_id` is on disk before the
 * call, so that the next call for the same contact and parameters gets the coin of a lost response. The request is
 * closed and the coin remembered as used before the coin is returned, so that no crash uses a coin twice.
 *
 * The call is repeated according to `service.retry`. Rejects with InvalidArgumentError, ClockError, an error of the
 * storage, or the CoinServiceError of the last attempt. The request then stays pending unless the service refused it
 * permanently.
 * @returns null if the service has no such coin.
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
  await requireTrustedClock(storage, service);
  // A pending request may bring a coin that another process used, or that has expired meanwhile. A fresh one cannot.
  for (const fresh of [false, true]) {
    const request = await storage.pendingRequests.openOnDemand(wish, { fresh });
    try {
      const { coins } = await callService(service, service.client.fetchCoins, toWire(request), {
        beforeRepeat: () => storage.pendingRequests.recordAttempts([request]),
      });
      const [first] = coins;
      if (first === undefined) {
        await storage.pendingRequests.settleOnDemand(request, null);
        return null;
      }
      const allowed = allowLowerCategories ? withLowerCategories(coinCategory) : [coinCategory];
      const coin = readFetchedCoin(contactId, first, allowed);
      // The request stays pending, so that a repeat with the right clock gets the same coin.
      const clockError = coin === null ? null : await checkFreshCoins(storage, service, [coin]);
      if (clockError !== null) throw clockError;
      if (coin === null) await storage.pendingRequests.abandon(request);
      else if (await storage.pendingRequests.settleOnDemand(request, coin)) return coin;
    } catch (error) {
      if (error instanceof CoinServiceError && isFinal(error.code)) await storage.pendingRequests.abandon(request);
      throw error;
    } finally {
      await storage.pendingRequests.release(request);
    }
  }
  return null;
}
