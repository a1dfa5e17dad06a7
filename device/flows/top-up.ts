import type { ItemError } from '../../gen/aqm/coin/v1/coin';
import type { FetchCoinsResult } from '../../gen/aqm/coin/v1/coin_service';
import { type CoinCategoryName, perCategory, specOf } from '../contract/coin-category';
import type { DeviceStorage } from '../contract/device-storage';
import type { CoinName, InventoryCoin } from '../contract/inventory';
import type { ContactAddress, DiscardedCoin, PendingRequest } from '../contract/pending-requests';
import { observeFlow } from '../telemetry/traced';
import { categoryOf, readFetchedCoin } from './fetched-coin';
import { mayPass, Retries } from './retries';
import { type CoinServiceAccess, callService, checkAccess } from './service-call';
import { isFinal, isServiceError, reasonOf } from './service-error';

export interface ContactTopUp {
  readonly contactId: string;
  /** The coins that this call put on disk. */
  readonly stored: CoinName[];
  /** Fetched coins that could not be kept, and why. */
  readonly discarded: DiscardedCoin[];
  /** How many coins the budget still lacks, whatever the reason. */
  readonly missing: Record<CoinCategoryName, number>;
  /** The first failure, if any: the coin service's reason, or the name of the gRPC code. */
  readonly error?: { readonly reason: string; readonly message: string };
}

export interface TopUpReport {
  /** One per contact asked for, in the same order. */
  readonly contacts: ContactTopUp[];
}

/** BatchFetchCoins takes at most this many items. */
const FETCH_BATCH = 50;

const NOTHING: ContactTopUp['missing'] = perCategory(() => 0);

type Draft = Omit<ContactTopUp, 'missing' | 'error'> & { error?: ContactTopUp['error'] };
type Drafts = ReadonlyMap<string, Draft>;

/**
 * Fills the contacts' budgets from the coin service. Room is reserved on disk before the fetch (promise 7), and every
 * fetch has a `request_id` that a later topUp asks again with when a crash or a lost reply left it open (promise 2).
 *
 * Calls and items are repeated as `service.retry` says. What fails to the end is reported per contact. A request that may succeed later stays open, and keeps its room, for the next
 * topUp; one that the service refuses for good is closed. Rejects only with InvalidArgumentError (a bad or repeated
 * contact; nothing changed), with the storage's errors, and with what `token` rejects with.
 */
export async function topUp(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  contacts: readonly ContactAddress[],
): Promise<TopUpReport> {
  checkAccess(service);
  return observeFlow(storage, 'top_up', () => fill(storage, service, contacts));
}

async function fill(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  contacts: readonly ContactAddress[],
): Promise<TopUpReport> {
  const { pendingRequests } = storage;
  const leftOpen = await pendingRequests.resumeTopUps(contacts);
  const drafts: Drafts = new Map(
    contacts.map(({ contactId }) => [contactId, { contactId, stored: [], discarded: [] }]),
  );
  // What is open comes first: its coins may already be out of the server's stock, waiting for this repeat.
  const reached = await ask(storage, service, leftOpen, drafts);
  if (reached) await ask(storage, service, await pendingRequests.reserveRoom(contacts), drafts);

  const missing = await pendingRequests.missingCoins(contacts);
  return {
    contacts: [...drafts.values()].map((draft) => ({ ...draft, missing: missing.get(draft.contactId) ?? NOTHING })),
  };
}

/** @returns false when a whole call failed; every contact's draft tells then, since none was topped up completely. */
async function ask(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  requests: readonly PendingRequest[],
  drafts: Drafts,
): Promise<boolean> {
  for (let start = 0; start < requests.length; start += FETCH_BATCH) {
    try {
      await askBatch(storage, service, requests.slice(start, start + FETCH_BATCH), drafts);
    } catch (error) {
      if (!isServiceError(error)) throw error;
      for (const draft of drafts.values()) draft.error ??= { reason: reasonOf(error), message: error.details };
      return false;
    }
  }
  return true;
}

/** Repeats the whole call, and then the items that failed for the moment, each with its own `request_id`. */
async function askBatch(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  requests: readonly PendingRequest[],
  drafts: Drafts,
): Promise<void> {
  const retries = new Retries(service);
  for (let asked = requests; ; ) {
    // Whatever failed may still be carried out; an empty answer to a repeat must not close its request.
    const askAgain = (again: readonly PendingRequest[]) => storage.pendingRequests.askAgain(again);
    const batch = { requests: asked.map(toWire) };
    const { results } = await callService(service, service.client.batchFetchCoins, batch, {
      retries,
      beforeRepeat: () => askAgain(asked),
    });
    const failed: { readonly request: PendingRequest; readonly error: ItemError }[] = [];
    for (const [index, request] of asked.entries()) {
      const result = results[index];
      if (result?.error !== undefined) failed.push({ request, error: result.error });
      else if (result !== undefined) await settle(storage, request, result, drafts);
    }
    const passing = failed.find(({ error }) => mayPass(error.code));
    const repeats = passing !== undefined && (await retries.again(passing.error));
    for (const { request, error } of failed) {
      const draft = drafts.get(request.contactId);
      if (draft === undefined || (repeats && mayPass(error.code))) continue;
      draft.error ??= { reason: error.reason, message: error.message };
      if (isFinal(error.code)) await storage.pendingRequests.abandon(request);
    }
    if (!repeats) return;
    asked = failed.filter(({ error }) => mayPass(error.code)).map(({ request }) => request);
    await askAgain(asked);
  }
}

async function settle(
  storage: DeviceStorage,
  request: PendingRequest,
  result: FetchCoinsResult,
  drafts: Drafts,
): Promise<void> {
  const draft = drafts.get(request.contactId);
  if (draft === undefined) return;
  const coins: InventoryCoin[] = [];
  for (const [index, coin] of result.coins.entries()) {
    const fetched = readFetchedCoin(request.contactId, coin, [request.coinCategory]);
    if (fetched !== null && index < request.count) coins.push(fetched);
    else {
      const coinCategory = categoryOf(coin) ?? request.coinCategory;
      draft.discarded.push({ keyId: coin.keyId, coinCategory, reason: 'MALFORMED' });
    }
  }
  if (coins.length === 0 && result.coins.length > 0) {
    // Asking again would bring the same.
    await storage.pendingRequests.abandon(request);
    return;
  }
  const { stored, discarded } = await storage.pendingRequests.settleTopUp(request, coins);
  draft.stored.push(...stored);
  draft.discarded.push(...discarded);
}

/** The same request always becomes the same message. */
export function toWire(request: PendingRequest) {
  return {
    targetUserId: request.userId,
    coinCategory: specOf(request.coinCategory).category,
    count: request.count,
    requestId: request.requestId,
    allowLowerCategories: request.allowLowerCategories,
  };
}
