import type { FetchCoinsResult } from '../gen/aqm/coin/v1/coin_service';
import { type CoinCategoryName, perCategory, specOf } from './coin-category';
import type { DeviceStorage } from './device-storage';
import { categoryOf, readFetchedCoin } from './fetched-coin';
import type { CoinName, InventoryCoin } from './inventory';
import type { ContactAddress, DiscardedCoin, OpenRequest } from './open-requests';
import { type CoinServiceAccess, callService, checkAccess, isFinal, isServiceError, reasonOf } from './service-call';

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
 * What fails is reported per contact. A request that may succeed later stays open, and keeps its room, for the next
 * topUp; one that the service refuses for good is closed. Rejects only with InvalidArgumentError (a bad or repeated
 * contact; nothing changed), with the storage's errors, and with what `token` rejects with.
 */
export async function topUp(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  contacts: readonly ContactAddress[],
): Promise<TopUpReport> {
  checkAccess(service);
  const { openRequests } = storage;
  const leftOpen = await openRequests.resumeTopUps(contacts);
  const drafts: Drafts = new Map(
    contacts.map(({ contactId }) => [contactId, { contactId, stored: [], discarded: [] }]),
  );
  // What is open comes first: its coins may already be out of the server's stock, waiting for this repeat.
  const reached = await ask(storage, service, leftOpen, drafts);
  if (reached) await ask(storage, service, await openRequests.reserveRoom(contacts), drafts);

  const missing = await openRequests.missingCoins(contacts);
  return {
    contacts: [...drafts.values()].map((draft) => ({ ...draft, missing: missing.get(draft.contactId) ?? NOTHING })),
  };
}

/** @returns false when a whole call failed; every contact's draft tells then, since none was topped up completely. */
async function ask(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  requests: readonly OpenRequest[],
  drafts: Drafts,
): Promise<boolean> {
  for (let start = 0; start < requests.length; start += FETCH_BATCH) {
    const batch = requests.slice(start, start + FETCH_BATCH);
    try {
      const { results } = await callService(service, service.client.batchFetchCoins, { requests: batch.map(toWire) });
      for (const [index, request] of batch.entries()) await settle(storage, request, results[index], drafts);
    } catch (error) {
      if (!isServiceError(error)) throw error;
      for (const draft of drafts.values()) draft.error ??= { reason: reasonOf(error), message: error.details };
      return false;
    }
  }
  return true;
}

async function settle(
  storage: DeviceStorage,
  request: OpenRequest,
  result: FetchCoinsResult | undefined,
  drafts: Drafts,
): Promise<void> {
  const draft = drafts.get(request.contactId);
  if (draft === undefined || result === undefined) return;
  if (result.error !== undefined) {
    draft.error ??= { reason: result.error.reason, message: result.error.message };
    if (isFinal(result.error.code)) await storage.openRequests.abandon(request);
    return;
  }
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
    await storage.openRequests.abandon(request);
    return;
  }
  const { stored, discarded } = await storage.openRequests.settleTopUp(request, coins);
  draft.stored.push(...stored);
  draft.discarded.push(...discarded);
}

/** The same request always becomes the same message. */
export function toWire(request: OpenRequest) {
  return {
    targetUserId: request.userId,
    coinCategory: specOf(request.coinCategory).category,
    count: request.count,
    requestId: request.requestId,
    allowLowerCategories: request.allowLowerCategories,
  };
}
