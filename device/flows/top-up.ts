import type { ItemError } from '../../gen/aqm/coin/v1/coin';
import type { FetchCoinsResult } from '../../gen/aqm/coin/v1/coin_service';
import { type CoinCategoryName, perCategory, specOf } from '../contract/coin-category';
import type { DeviceStorage } from '../contract/device-storage';
import type { CoinName, InventoryCoin } from '../contract/inventory';
import type { ContactAddress, DiscardedCoin, PendingRequest } from '../contract/pending-requests';
import { isFinal, isServiceError, reasonOf } from '../service-error';
import { observeFlow } from '../telemetry/traced';
import { categoryOf, checkFetchOptions, type FetchOptions, isAccepted, readFetchedCoin } from './fetched-coin';
import { isRetryable, Retries } from './retries';
import { type CoinServiceAccess, callService, checkAccess } from './service-call';

/** The result of topping up one contact. */
export interface ContactTopUp {
  readonly contactId: string;
  /** The coins that this call put on disk. */
  readonly stored: CoinName[];
  /** The fetched coins that could not be kept, each with the reason. */
  readonly discarded: DiscardedCoin[];
  /** The number of coins that the budget still lacks, for any reason. */
  readonly missing: Record<CoinCategoryName, number>;
  /** The first failure, if any. `reason` is that of the coin service, or the name of the gRPC code. */
  readonly error?: { readonly reason: string; readonly message: string };
}

export interface TopUpReport {
  /** One result per requested contact, in the same order. */
  readonly contacts: ContactTopUp[];
}

/** The maximum number of items of one BatchFetchCoins call. */
const FETCH_BATCH = 50;

const NOTHING: ContactTopUp['missing'] = perCategory(() => 0);

type Draft = Omit<ContactTopUp, 'missing' | 'error'> & { error?: ContactTopUp['error'] };
type Drafts = ReadonlyMap<string, Draft>;

/** What all steps of one topUp share. */
interface Filling {
  readonly storage: DeviceStorage;
  readonly service: CoinServiceAccess;
  readonly options: FetchOptions;
  readonly drafts: Drafts;
}

/**
 * Fills the contacts' budgets from the coin service. Room is reserved on disk before the fetch (promise 7). Every fetch
 * has a `request_id`, with which a later topUp repeats it if a crash or a lost response left it pending (promise 2).
 *
 * Calls and items are repeated according to `service.retry`. Final failures are reported per contact. A request that
 * may succeed later stays pending, and keeps its room, for the next topUp; one that the service refuses permanently is
 * closed. Coins that `verify` refuses are reported as BAD_SIGNATURE, and never stored. Rejects only with
 * InvalidArgumentError (a bad or repeated contact, bad options; nothing was changed), with the errors of the storage,
 * and with the error of `token`.
 */
export async function topUp(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  contacts: readonly ContactAddress[],
  options: FetchOptions = {},
): Promise<TopUpReport> {
  checkAccess(service);
  checkFetchOptions(options);
  return observeFlow(storage, 'top_up', () => fill(storage, service, contacts, options));
}

async function fill(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  contacts: readonly ContactAddress[],
  options: FetchOptions,
): Promise<TopUpReport> {
  const { pendingRequests } = storage;
  const resumed = await pendingRequests.resumeTopUps(contacts);
  const drafts: Drafts = new Map(
    contacts.map(({ contactId }) => [contactId, { contactId, stored: [], discarded: [] }]),
  );
  const filling: Filling = { storage, service, options, drafts };
  // Pending requests come first: the server may already have taken their coins out of its stock.
  const reached = await fetchAll(filling, resumed);
  if (reached) await fetchAll(filling, await pendingRequests.reserveRoom(contacts));

  const missing = await pendingRequests.missingCoins(contacts);
  return {
    contacts: [...drafts.values()].map((draft) => ({ ...draft, missing: missing.get(draft.contactId) ?? NOTHING })),
  };
}

/**
 * Sends the requests in batches. Returns false if a whole call failed. Then the error is noted for every contact,
 * because none was topped up completely.
 */
async function fetchAll(filling: Filling, requests: readonly PendingRequest[]): Promise<boolean> {
  for (let start = 0; start < requests.length; start += FETCH_BATCH) {
    try {
      await fetchBatch(filling, requests.slice(start, start + FETCH_BATCH));
    } catch (error) {
      if (!isServiceError(error)) throw error;
      for (const draft of filling.drafts.values()) draft.error ??= { reason: reasonOf(error), message: error.details };
      return false;
    }
  }
  return true;
}

/**
 * Sends one batch. Repeats the whole call if it fails, and then the items that failed temporarily, with the same ids.
 */
async function fetchBatch(filling: Filling, requests: readonly PendingRequest[]): Promise<void> {
  const { storage, service, drafts } = filling;
  const retries = new Retries(service);
  for (let sent = requests; ; ) {
    // A failed attempt may still be carried out, so an empty response to its repeat must not close the request.
    const recordAttempts = (repeated: readonly PendingRequest[]) => storage.pendingRequests.recordAttempts(repeated);
    const batch = { requests: sent.map(toWire) };
    const { results } = await callService(service, service.client.batchFetchCoins, batch, {
      retries,
      beforeRepeat: () => recordAttempts(sent),
    });
    const failed: { readonly request: PendingRequest; readonly error: ItemError }[] = [];
    for (const [index, request] of sent.entries()) {
      const result = results[index];
      if (result?.error !== undefined) failed.push({ request, error: result.error });
      else if (result !== undefined) await settle(filling, request, result);
    }
    const retryable = failed.find(({ error }) => isRetryable(error.code));
    const repeats = retryable !== undefined && (await retries.again(retryable.error));
    for (const { request, error } of failed) {
      const draft = drafts.get(request.contactId);
      if (draft === undefined || (repeats && isRetryable(error.code))) continue;
      draft.error ??= { reason: error.reason, message: error.message };
      if (isFinal(error.code)) await storage.pendingRequests.abandon(request);
    }
    if (!repeats) return;
    sent = failed.filter(({ error }) => isRetryable(error.code)).map(({ request }) => request);
    await recordAttempts(sent);
  }
}

async function settle(
  { storage, options, drafts }: Filling,
  request: PendingRequest,
  result: FetchCoinsResult,
): Promise<void> {
  const draft = drafts.get(request.contactId);
  if (draft === undefined) return;
  const { pendingRequests } = storage;
  const { contactId, coinCategory, count } = request;
  const expected = { contactId, categories: [coinCategory], nowMs: pendingRequests.now() };
  const coins: InventoryCoin[] = [];
  const refused: InventoryCoin[] = [];
  for (const [index, coin] of result.coins.entries()) {
    const fetched = readFetchedCoin(coin, expected);
    if (fetched === null || index >= count) {
      const reported = categoryOf(coin) ?? coinCategory;
      draft.discarded.push({ keyId: coin.keyId, coinCategory: reported, reason: 'MALFORMED' });
    } else if (await isAccepted(options, fetched)) coins.push(fetched);
    else refused.push(fetched);
  }
  if (refused.length > 0) {
    // Before the request is closed: after a crash its repeat brings these coins again.
    await pendingRequests.discard(contactId, refused);
    for (const { keyId, coinCategory } of refused) {
      draft.discarded.push({ keyId, coinCategory, reason: 'BAD_SIGNATURE' });
    }
  }
  if (coins.length === 0 && result.coins.length > 0) {
    // A repeat would bring the same coins.
    await pendingRequests.abandon(request);
    return;
  }
  const { stored, discarded } = await pendingRequests.settleTopUp(request, coins);
  draft.stored.push(...stored);
  draft.discarded.push(...discarded);
}

/** Converts a request to its message. The same request always gives the same message. */
export function toWire(request: PendingRequest) {
  return {
    targetUserId: request.userId,
    coinCategory: specOf(request.coinCategory).category,
    count: request.count,
    requestId: request.requestId,
    allowLowerCategories: request.allowLowerCategories,
  };
}
