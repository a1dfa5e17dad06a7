import { status } from '@grpc/grpc-js';
import { CoinServiceError } from '../../coin-client/coin-service-error';
import { authorization } from '../../coin-client/unary-call';
import type { DeviceStorage } from '../contract/device-storage';
import type { ContactAddress } from '../contract/pending-requests';
import { checkContacts } from '../contract/validate';
import { observeFlow } from '../telemetry/traced';
import { requireTrustedClock } from './confirm-clock';
import { type Filling, fetchReserved } from './fetch-reserved';
import { checkFetchOptions, type FetchOptions } from './fetched-coin';
import { learnDevices } from './learn-devices';
import { requireOwner } from './require-owner';
import { type CoinServiceAccess, checkAccess } from './service-call';
import { type ContactTopUp, TopUpDraft } from './top-up-draft';

export interface TopUpReport {
  /** One result per requested contact, in the same order. */
  readonly contacts: ContactTopUp[];
}

/**
 * Fills the budgets of the contacts' devices from the coin service. It first asks which devices each contact has, and
 * forgets the cached coins of those that are gone. Room is reserved on disk before the fetch (promise 7). Every fetch has
 * a `request_id`, with which a later topUp repeats it if a crash or a lost response left it pending (promise 2).
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
  const draft = new TopUpDraft(contacts);
  const filling: Filling = { storage, service, options, report: draft };
  const reached = await reaches(draft, async () => {
    await requireTrustedClock(storage, service);
    await learnDevices(storage, service, contacts, draft);
    // Pending requests come first: the server may already have taken their coins out of its stock.
    await fetchReserved(filling, await pendingRequests.resumeTopUps(contacts));
  });
  if (reached) {
    await reaches(draft, async () => fetchReserved(filling, await pendingRequests.reserveRoom(contacts)));
  }
  return { contacts: draft.finish(await pendingRequests.missingCoins(contacts)) };
}

/**
 * Runs a part of the flow. Returns false if a whole call failed. Then the error is noted for every contact, because none
 * was topped up completely.
 */
async function reaches(draft: TopUpDraft, work: () => Promise<void>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (!(error instanceof CoinServiceError) || isRefusedCaller(error.code)) throw error;
    draft.failAll(error);
    return false;
  }
}

/** Returns true if the service refuses every call with this token. */
function isRefusedCaller(code: status): boolean {
  return code === status.UNAUTHENTICATED || code === status.PERMISSION_DENIED;
}
