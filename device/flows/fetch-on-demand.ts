import { CoinServiceError } from '../../coin-client/coin-service-error';
import { withLowerCategories } from '../contract/coin-category';
import type { DeviceStorage } from '../contract/device-storage';
import type { InventoryCoin } from '../contract/inventory';
import type { OnDemandWish } from '../contract/pending-requests';
import { checkDeviceId, checkObject, UNNAMED } from '../contract/validate';
import { UnusableCoinError } from '../errors';
import { observeFlow } from '../telemetry/traced';
import { checkFreshCoins, requireTrustedClock } from './confirm-clock';
import { fetchForEach } from './fetch-for-devices';
import { checkFetchOptions, type FetchOptions, isAccepted, isPossibleExpiry, readFetchedCoin } from './fetched-coin';
import { requireOwner } from './require-owner';
import { isFinal } from './retries';
import { type CoinServiceAccess, callService, checkAccess } from './service-call';
import { toFetchCoins } from './wire-request';

/** The parameters of fetchOnDemand. */
export interface FetchOnDemandWish extends Omit<OnDemandWish, 'allowLowerCategories' | 'deviceIds'> {
  /** The contact's device: UUID in any case. Default: the contact's unnamed device. */
  readonly deviceId?: string;
  /** Default false: only a coin of the category itself. */
  readonly allowLowerCategories?: boolean;
}

/**
 * Fetches one coin of one device for immediate use, for contacts whose coins are not cached. The `request_id` is on disk
 * before the call, so that the next call for the same contact and parameters gets the coin of a lost response. The request
 * is closed and the coin remembered as used before the coin is returned, so that no crash uses a coin twice.
 *
 * The call is repeated according to `service.retry`. Rejects with InvalidArgumentError, ClockError, an error of the
 * storage, or the CoinServiceError of the last attempt. The request then stays pending unless the service refused it
 * permanently. Rejects with UnusableCoinError if the service gave a coin that must not be used: its `reason` is
 * MALFORMED, BAD_SIGNATURE (`verify` refused it), ALREADY_USED or EXPIRED. The request is then closed.
 * @returns null if the service has no such coin (a device that the contact does not have, or that was removed, has none),
 * and for no other reason.
 */
export async function fetchOnDemand(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  wish: FetchOnDemandWish,
  options: FetchOptions = {},
): Promise<InventoryCoin | null> {
  checkAccess(service);
  checkObject('wish', wish);
  checkFetchOptions(options);
  const deviceId = checkDeviceId('deviceId', wish.deviceId);
  return observeFlow(storage, 'fetch_on_demand', () =>
    deviceId === UNNAMED
      ? fetchOne(storage, service, wish, options)
      : fetchOfDevice(storage, service, { ...wish, deviceIds: [deviceId] }, options),
  );
}

async function fetchOfDevice(...args: Parameters<typeof fetchForEach>): Promise<InventoryCoin | null> {
  const [found] = await fetchForEach(...args);
  if (found?.error !== undefined) throw found.error;
  return found?.coin ?? null;
}

async function fetchOne(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  { contactId, userId, coinCategory, allowLowerCategories = false }: FetchOnDemandWish,
  options: FetchOptions,
): Promise<InventoryCoin | null> {
  const { pendingRequests } = storage;
  const wish = { contactId, userId, coinCategory, allowLowerCategories };
  const categories = allowLowerCategories ? withLowerCategories(coinCategory) : [coinCategory];
  let reason: 'EXPIRED' | 'ALREADY_USED' = 'ALREADY_USED';
  await requireOwner(storage, service, { bind: false });
  await requireTrustedClock(storage, service);
  // A pending request may bring a coin that another process used, or that has expired meanwhile. A fresh one should not.
  for (const fresh of [false, true]) {
    const request = await pendingRequests.openOnDemand(wish, { fresh });
    try {
      const { coins } = await callService(service, service.client.fetchCoins, toFetchCoins(request), {
        beforeRepeat: () => pendingRequests.recordAttempts([request]),
      });
      const [first] = coins;
      if (first === undefined) {
        await pendingRequests.settleOnDemand(request, []);
        return null;
      }
      const coin = readFetchedCoin(first, { contactId, categories });
      // The request stays pending, so that a repeat with the right clock gets the same coin.
      const clockError = coin === null ? null : await checkFreshCoins(storage, service, [coin]);
      if (clockError !== null) throw clockError;
      if (coin === null || !isPossibleExpiry(coin.expiresAt, storage.clock.now())) {
        await pendingRequests.abandon(request);
        throw new UnusableCoinError('MALFORMED');
      }
      if (!(await isAccepted(options, coin))) {
        await pendingRequests.settleOnDemand(request, [coin]);
        throw new UnusableCoinError('BAD_SIGNATURE');
      }
      const [mayBeUsed] = await pendingRequests.settleOnDemand(request, [coin]);
      if (mayBeUsed) return coin;
      reason = coin.expiresAt.getTime() <= storage.clock.now() ? 'EXPIRED' : 'ALREADY_USED';
    } catch (error) {
      if (error instanceof CoinServiceError && isFinal(error.code)) await pendingRequests.abandon(request);
      throw error;
    } finally {
      await pendingRequests.release(request);
    }
  }
  throw new UnusableCoinError(reason);
}
