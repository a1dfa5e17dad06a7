import { status } from '@grpc/grpc-js';
import { CoinServiceError } from '../../coin-client/coin-service-error';
import { authorization, invalidAnswer } from '../../coin-client/unary-call';
import type { ItemError } from '../../gen/aqm/coin/v1/coin';
import type { FetchCoinsResult } from '../../gen/aqm/coin/v1/coin_service';
import { type CoinCategoryName, perCategory, specOf } from '../contract/coin-category';
import type { DeviceStorage } from '../contract/device-storage';
import type { CoinName, InventoryCoin } from '../contract/inventory';
import type { ContactAddress, DiscardedCoin, PendingRequest } from '../contract/pending-requests';
import { checkContacts } from '../contract/validate';
import type { ClockError } from '../errors';
import { observeFlow } from '../telemetry/traced';
import { checkFreshCoins, requireTrustedClock } from './confirm-clock';
import {
  categoryOf,
  checkFetchOptions,
  type FetchOptions,
  isAccepted,
  isPossibleExpiry,
  readFetchedCoin,
} from './fetched-coin';
import { requireOwner } from './require-owner';
import { isFinal, isRetryable, Retries } from './retries';
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
  /** The first failure, if any. */
  readonly error?: CoinServiceError;
}

export interface TopUpReport {
  /** One result per requested contact, in the same order. */
  readonly contacts: ContactTopUp[];
}

/** The maximum number of items of one BatchFetchCoins call. */
const FETCH_BATCH = 50;

type Draft = Omit<ContactTopUp, 'missing' | 'error'> & { error?: ContactTopUp['error'] };
type Drafts = ReadonlyMap<string, Draft>;

/** The values that all steps of one topUp share. */
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
 * InvalidArgumentError (a bad or repeated contact, bad options; nothing was changed), with ClockError (no further coin is
 * taken; those that were fetched are stored), with the errors of the storage, with the error of `token`, and with
 * CoinServiceError if the token is refused: one that cannot be a token before anything is reserved, others by the
 * service, after which the reserved requests stay pending.
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
  checkContacts(contacts);
  // A token that cannot be sent must not leave room reserved.
  await authorization(service.token);
  await requireOwner(storage, service, { bind: false });
  const drafts: Drafts = new Map(
    contacts.map(({ contactId }) => [contactId, { contactId, stored: [], discarded: [] }]),
  );
  const filling: Filling = { storage, service, options, drafts };
  const reached = await reaches(drafts, async () => {
    await requireTrustedClock(storage, service);
    for (const { contactId } of contacts) await pendingRequests.learnDevices(contactId, ['']);
    // Pending requests come first: the server may already have taken their coins out of its stock.
    await fetchAll(filling, await pendingRequests.resumeTopUps(contacts));
  });
  if (reached) {
    await reaches(drafts, async () => fetchAll(filling, await pendingRequests.reserveRoom(contacts)));
  }

  const missing = await pendingRequests.missingCoins(contacts);
  return {
    contacts: [...drafts.values()].map((draft) => ({
      ...draft,
      missing: perCategory((category) =>
        (missing.get(draft.contactId) ?? []).reduce((sum, of) => sum + of.missing[category], 0),
      ),
    })),
  };
}

/**
 * Runs a part of the flow. Returns false if a whole call failed. Then the error is noted for every contact, because none
 * was topped up completely.
 */
async function reaches(drafts: Drafts, work: () => Promise<void>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (!(error instanceof CoinServiceError) || isRefusedCaller(error.code)) throw error;
    for (const draft of drafts.values()) draft.error ??= error;
    return false;
  }
}

async function fetchAll(filling: Filling, requests: readonly PendingRequest[]): Promise<void> {
  for (let start = 0; start < requests.length; start += FETCH_BATCH) {
    await fetchBatch(filling, requests.slice(start, start + FETCH_BATCH));
  }
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
    const failed: { readonly request: PendingRequest; readonly error: CoinServiceError }[] = [];
    let clockError: ClockError | null = null;
    for (const [index, request] of sent.entries()) {
      const draft = drafts.get(request.contactId);
      if (draft === undefined) continue;
      const result = results[index];
      if (result === undefined) failed.push({ request, error: unanswered(results.length, sent.length) });
      else if (result.error !== undefined) failed.push({ request, error: errorOfItem(result.error) });
      else clockError = (await settle(filling, request, result, draft)) ?? clockError;
    }
    if (clockError !== null) throw clockError;
    const retryable = failed.map(({ error }) => error).filter(({ code }) => isRetryable(code));
    const [longest] = retryable.sort((a, b) => (b.retryAfterMs ?? 0) - (a.retryAfterMs ?? 0));
    const repeats = longest !== undefined && (await retries.again(longest));
    for (const { request, error } of failed) {
      const draft = drafts.get(request.contactId);
      if (draft === undefined || (repeats && isRetryable(error.code))) continue;
      draft.error ??= error;
      if (isFinal(error.code)) await storage.pendingRequests.abandon(request);
    }
    if (!repeats) return;
    sent = failed.filter(({ error }) => isRetryable(error.code)).map(({ request }) => request);
    await recordAttempts(sent);
  }
}

/** Stores the coins of one answer, also if the clock is wrong and calls them expired. Returns the error about it then. */
async function settle(
  { storage, service, options }: Filling,
  request: PendingRequest,
  result: FetchCoinsResult,
  draft: Draft,
): Promise<ClockError | null> {
  const { pendingRequests } = storage;
  const { contactId, coinCategory, count } = request;
  const expected = { contactId, categories: [coinCategory] };
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
  const clockError = await checkFreshCoins(storage, service, coins);
  const nowMs = storage.clock.now();
  const good = clockError ? coins : coins.filter(({ expiresAt }) => isPossibleExpiry(expiresAt, nowMs));
  for (const { keyId, coinCategory } of coins.filter((coin) => !good.includes(coin))) {
    draft.discarded.push({ keyId, coinCategory, reason: 'MALFORMED' });
  }
  if (good.length === 0 && result.coins.length > 0) {
    // A repeat would bring the same coins.
    await pendingRequests.abandon(request);
    return clockError;
  }
  const { stored, discarded } = await pendingRequests.settleTopUp(request, good);
  draft.stored.push(...stored);
  draft.discarded.push(...discarded);
  return clockError;
}

/** Returns true if the service refuses every call with this token. */
function isRefusedCaller(code: status): boolean {
  return code === status.UNAUTHENTICATED || code === status.PERMISSION_DENIED;
}

function errorOfItem({ code, reason, message, retryDelay }: ItemError): CoinServiceError {
  const retryAfterMs = retryDelay && Number(retryDelay.seconds) * 1000 + retryDelay.nanos / 1e6;
  return new CoinServiceError(message, { code, reason: reason || (status[code] ?? 'UNKNOWN'), retryAfterMs });
}

function unanswered(results: number, requests: number): CoinServiceError {
  return invalidAnswer(`The coin service answered only ${results} of ${requests} requests; they stay pending.`);
}

/** Converts a request to its message. The same request always gives the same message. */
export function toWire(request: PendingRequest) {
  return {
    targetUserId: request.userId,
    coinCategory: specOf(request.coinCategory).category,
    count: request.count,
    requestId: request.requestId,
    allowLowerCategories: request.allowLowerCategories,
    deviceId: '',
  };
}
