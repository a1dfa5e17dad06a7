import type { CoinServiceError } from '../../coin-client/coin-service-error';
import type { FetchCoinsResult } from '../../gen/aqm/coin/v1/coin_service';
import type { DeviceStorage } from '../contract/device-storage';
import type { CoinName, InventoryCoin } from '../contract/inventory';
import type { DiscardedCoin, PendingRequest } from '../contract/pending-requests';
import type { ClockError } from '../errors';
import { callItems } from './call-items';
import { checkFreshCoins } from './confirm-clock';
import { categoryOf, type FetchOptions, isAccepted, isPossibleExpiry, readFetchedCoin } from './fetched-coin';
import { isFinal } from './retries';
import { type CoinServiceAccess, callService } from './service-call';
import { toFetchCoins } from './wire-request';

/** Receives what became of the requests. */
export interface FetchReport {
  add(request: PendingRequest, outcome: { readonly stored?: CoinName[]; readonly discarded?: DiscardedCoin[] }): void;
  fail(request: PendingRequest, error: CoinServiceError): void;
}

/** The values that all steps of one topUp share. */
export interface Filling {
  readonly storage: DeviceStorage;
  readonly service: CoinServiceAccess;
  readonly options: FetchOptions;
  readonly report: FetchReport;
}

/**
 * Fetches the coins of reservations, stores them, and closes the reservations that were answered, or that the service
 * refuses permanently. Rejects with ClockError, with the errors of the storage, and with the CoinServiceError of a call
 * that failed.
 */
export async function fetchReserved(filling: Filling, requests: readonly PendingRequest[]): Promise<void> {
  const { storage, service, report } = filling;
  await callItems(service, requests, {
    send: (some, repetition) => {
      const batch = { requests: some.map(toFetchCoins) };
      return callService(service, service.client.batchFetchCoins, batch, repetition);
    },
    onAnswer: (request, result) => settle(filling, request, result),
    onFailure: async (request, error) => {
      report.fail(request, error);
      if (isFinal(error.code)) await storage.pendingRequests.abandon(request);
    },
    // A failed attempt may still be carried out, so an empty response to its repeat must not close the request.
    beforeRepeat: (repeated) => storage.pendingRequests.recordAttempts(repeated),
  });
}

/** Stores the coins of one answer, also if the clock is wrong and calls them expired. Returns the error about it then. */
async function settle(
  { storage, service, options, report }: Filling,
  request: PendingRequest,
  result: FetchCoinsResult,
): Promise<ClockError | null> {
  const { pendingRequests } = storage;
  const { contactId, deviceId, coinCategory, count } = request;
  const expected = { contactId, deviceId, categories: [coinCategory] };
  const coins: InventoryCoin[] = [];
  const refused: InventoryCoin[] = [];
  const discarded: DiscardedCoin[] = [];
  for (const [index, coin] of result.coins.entries()) {
    const fetched = readFetchedCoin(coin, expected);
    if (fetched === null || index >= count) {
      const reported = categoryOf(coin) ?? coinCategory;
      discarded.push({ keyId: coin.keyId, coinCategory: reported, reason: 'MALFORMED' });
    } else if (await isAccepted(options, fetched)) coins.push(fetched);
    else refused.push(fetched);
  }
  if (refused.length > 0) {
    // Before the request is closed: after a crash its repeat brings these coins again.
    await pendingRequests.discard(contactId, refused);
    for (const { keyId, coinCategory } of refused) discarded.push({ keyId, coinCategory, reason: 'BAD_SIGNATURE' });
  }
  const clockError = await checkFreshCoins(storage, service, coins);
  const nowMs = storage.clock.now();
  const good = clockError ? coins : coins.filter(({ expiresAt }) => isPossibleExpiry(expiresAt, nowMs));
  for (const { keyId, coinCategory } of coins.filter((coin) => !good.includes(coin))) {
    discarded.push({ keyId, coinCategory, reason: 'MALFORMED' });
  }
  report.add(request, { discarded });
  // A repeat would bring the same coins.
  if (good.length === 0 && result.coins.length > 0) await pendingRequests.abandon(request);
  else report.add(request, await pendingRequests.settleTopUp(request, good));
  return clockError;
}
