import { CoinServiceError } from '../../coin-client/coin-service-error';
import type { DeviceCoins, DeviceCoinsRequest } from '../../gen/aqm/coin/v1/coin_service';
import { withLowerCategories } from '../contract/coin-category';
import type { DeviceStorage } from '../contract/device-storage';
import type { InventoryCoin } from '../contract/inventory';
import type { OnDemandWish, PendingRequest } from '../contract/pending-requests';
import { ofDevice } from '../contract/validate';
import { UnusableCoinError } from '../errors';
import { callItems } from './call-items';
import { checkFreshCoins } from './confirm-clock';
import { type FetchOptions, isAccepted, isPossibleExpiry, readFetchedCoin } from './fetched-coin';
import { isFinal } from './retries';
import { type CoinServiceAccess, callService } from './service-call';
import { deviceIdsOf, toDeviceCoins, toDeviceList } from './wire-request';

/** The values that all steps of one fetchForDevices share. */
export interface Fetching {
  readonly storage: DeviceStorage;
  readonly service: CoinServiceAccess;
  readonly options: FetchOptions;
}

/** The coin that one request brought for one device. */
export interface DeviceFind {
  readonly coin: InventoryCoin | null;
  readonly error?: UnusableCoinError | CoinServiceError;
  /** True if the answer was that of an earlier call, so that a new request may bring a coin. */
  readonly again: boolean;
}

/** A request's answer. */
interface Answer {
  readonly devices: readonly DeviceCoins[];
  /** The devices that the contact has now. Undefined if the answer itself says so. */
  readonly present: ReadonlySet<string> | undefined;
}

/**
 * Sends one request for one coin of each device: a pending one with these parameters, or, always with `fresh`, a new one.
 * Closes it, with its coins remembered as used. Returns what it brought, by device id.
 */
export async function fetchOncePerDevice(
  fetching: Fetching,
  wish: OnDemandWish & { readonly deviceIds: readonly string[] },
  { fresh }: { readonly fresh: boolean },
): Promise<Map<string, DeviceFind>> {
  const { pendingRequests } = fetching.storage;
  const request = await pendingRequests.openOnDemand(wish, { fresh });
  try {
    const answer = await send(fetching, request);
    return await settle(fetching, request, answer);
  } catch (error) {
    if (error instanceof CoinServiceError && isFinal(error.code)) await pendingRequests.abandon(request);
    throw error;
  } finally {
    await pendingRequests.release(request);
  }
}

/** Sends the request. Lists the contact's devices in the same call if an earlier call sent the request before. */
async function send({ storage, service }: Fetching, request: PendingRequest): Promise<Answer> {
  const fetch = toDeviceCoins(request);
  const list = toDeviceList(request.userId);
  const answers = new Map<DeviceCoinsRequest, readonly DeviceCoins[]>();
  await callItems(service, request.isResumed ? [fetch, list] : [fetch], {
    send: (some, repetition) =>
      callService(service, service.client.fetchDeviceCoins, { requests: [...some] }, repetition),
    onAnswer: async (item, { devices }) => {
      answers.set(item, devices);
      return null;
    },
    onFailure: (_, error) => Promise.reject(error),
    beforeRepeat: async (repeated) => {
      if (repeated.includes(fetch)) await storage.pendingRequests.recordAttempts([request]);
    },
  });
  const devices = answers.get(fetch) ?? [];
  deviceIdsOf(devices);
  const listed = answers.get(list);
  return { devices, present: listed && new Set(deviceIdsOf(listed)) };
}

/** Checks the coins of an answer, closes the request, and returns what each device got. */
async function settle(
  { storage, service, options }: Fetching,
  request: PendingRequest,
  { devices, present }: Answer,
): Promise<Map<string, DeviceFind>> {
  const { contactId, coinCategory, allowLowerCategories, deviceIds = [], isResumed = false } = request;
  const categories = allowLowerCategories ? withLowerCategories(coinCategory) : [coinCategory];
  const coins = new Map<string, InventoryCoin | null>();
  for (const { deviceId, coins: fetched } of devices) {
    const device = deviceId.toLowerCase();
    const [first] = fetched;
    if (first !== undefined) coins.set(device, readFetchedCoin(first, { contactId, ...ofDevice(device), categories }));
  }
  const sound = await soundCoins(storage, service, [...coins.values()]);
  const refused = new Set<InventoryCoin>();
  for (const coin of sound) if (!(await isAccepted(options, coin))) refused.add(coin);
  const usable = await close(storage, request, sound, coins.size > 0);

  const nowMs = storage.clock.now();
  const outcomeOf = (coin: InventoryCoin | null | undefined): DeviceFind => {
    if (coin === undefined) return { coin: null, again: isResumed };
    if (coin === null || !sound.includes(coin)) return unusable('MALFORMED');
    if (refused.has(coin)) return unusable('BAD_SIGNATURE');
    if (usable.has(coin)) return { coin, again: false };
    return { ...unusable(coin.expiresAt.getTime() <= nowMs ? 'EXPIRED' : 'ALREADY_USED'), again: true };
  };
  const found = new Map<string, DeviceFind>();
  for (const deviceId of deviceIdsOf(devices)) {
    if (present?.has(deviceId) ?? true) found.set(deviceId, outcomeOf(coins.get(deviceId)));
  }
  for (const deviceId of present ?? []) {
    const isWanted = deviceIds.length === 0 || deviceIds.includes(deviceId);
    if (isWanted && !found.has(deviceId)) found.set(deviceId, { coin: null, again: true });
  }
  return found;
}

/** Returns the coins that may be used by their form and expiry. Rejects with ClockError if the clock is wrong. */
async function soundCoins(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  coins: readonly (InventoryCoin | null)[],
): Promise<InventoryCoin[]> {
  const read = coins.filter((coin) => coin !== null);
  // The request stays pending, so that a repeat with the right clock gets the same coins.
  const clockError = await checkFreshCoins(storage, service, read);
  if (clockError !== null) throw clockError;
  const nowMs = storage.clock.now();
  return read.filter(({ expiresAt }) => isPossibleExpiry(expiresAt, nowMs));
}

/** Closes the request, remembers its coins as used, and returns those that no process used before. */
async function close(
  { pendingRequests }: DeviceStorage,
  request: PendingRequest,
  coins: readonly InventoryCoin[],
  hasCoins: boolean,
): Promise<ReadonlySet<InventoryCoin>> {
  if (coins.length === 0 && hasCoins) {
    // A repeat would bring the same coins, none of which can be used.
    await pendingRequests.abandon(request);
    return new Set();
  }
  const mayBeUsed = await pendingRequests.settleOnDemand(request, coins);
  return new Set(coins.filter((_, index) => mayBeUsed[index]));
}

function unusable(reason: UnusableCoinError['reason']): DeviceFind {
  return { coin: null, error: new UnusableCoinError(reason), again: false };
}
