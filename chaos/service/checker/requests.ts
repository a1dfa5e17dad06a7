import { COIN_CATEGORIES } from '../../../gen/aqm/coin/v1/coin_categories';
import {
  type Fault,
  type FetchCall,
  type FetchedCoin,
  type FetchItem,
  type History,
  ISSUER_SILENT,
  type Millis,
  type Rules,
} from '../history';
import { FenceClosures } from './fence-closures';

/** One attempt at a request: one item of one call. */
export interface Attempt {
  readonly call: FetchCall;
  readonly item: FetchItem;
  readonly start: Millis;
  readonly end: Millis;
  /** The time until which it may hold coins or take effect: its end, or later if it failed. */
  readonly until: Millis;
  /** The coins of the answer. undefined if the attempt failed. */
  readonly coins: readonly FetchedCoin[] | undefined;
  /** One for each device from which it took or may have taken coins. */
  readonly parts: readonly Part[];
  /** True if the fence was certainly closed when it began. It took no coins then. */
  readonly isFenced: boolean;
}

/** The share of one device in an attempt. */
export interface Part {
  readonly deviceId: string;
  /** undefined if the attempt failed. */
  readonly coins: readonly FetchedCoin[] | undefined;
}

/** Coins that left the stock together, some time between `from` and `to`. */
export interface Take {
  readonly request: Request;
  readonly coins: readonly FetchedCoin[];
  readonly from: Millis;
  readonly to: Millis;
  /** The first attempt that was answered with them. */
  readonly attempt: Attempt;
}

/** All attempts with the same requester, target and request_id. A fetch without a request_id is a separate request. */
export interface Request {
  readonly name: string;
  readonly requesterId: string;
  readonly item: FetchItem;
  /** The categories that may answer it, the best first. */
  readonly categories: readonly number[];
  readonly attempts: Attempt[];
  /** The different sets of coins that it was answered with. More than one is a violation, except after the grace. */
  readonly takes: Take[];
}

/** Returns the name of a request. It is built from the columns that identify a row of coin_fetch. */
export function requestName(requesterId: string, targetUserId: string, requestId: string): string {
  return `${requestId} of ${requesterId} on ${targetUserId}`;
}

/** Returns the name of a queue: the coins of one device and category, in the order of their uploads. */
export function queueName(userId: string, deviceId: string, category: number): string {
  return `${userId} ${deviceId} ${category}`;
}

/** Returns the name of a device in a report. */
export function deviceName(userId: string, deviceId: string): string {
  return `${deviceId === '' ? 'the unnamed device' : `device ${deviceId}`} of ${userId}`;
}

export function categoryName(category: number): string {
  return COIN_CATEGORIES.find((spec) => spec.category === category)?.name ?? String(category);
}

function acceptable({ category, allowLower }: FetchItem): number[] {
  const wanted = COIN_CATEGORIES.find((spec) => spec.category === category)?.preference ?? 0;
  return COIN_CATEGORIES.filter((spec) => spec.category === category || (allowLower && spec.preference < wanted)).map(
    (spec) => spec.category,
  );
}

/** Groups the attempts by request, in the order of their starts, with the coins that they took. */
export function groupRequests(history: History, rules: Rules): Request[] {
  const { calls, faults } = history;
  const closures = new FenceClosures(history, rules);
  const requests = new Map<string, Request>();
  const fetches = calls.filter((call) => call.kind === 'fetch').sort((a, b) => a.start - b.start);
  const devices = devicesOf(history);
  const servers = new Map<number, Fault[]>();
  for (const call of fetches) {
    let ofServer = servers.get(call.server);
    if (!ofServer) {
      // A silent issuer delays no call that a service lets in.
      ofServer = faults.filter(
        ({ kind, server }) => kind !== ISSUER_SILENT && (server === undefined || server === call.server),
      );
      servers.set(call.server, ofServer);
    }
    call.items.forEach((item, index) => {
      const name =
        item.requestId === ''
          ? `call ${call.call} item ${index}`
          : requestName(call.requesterId, item.targetUserId, item.requestId);
      let request = requests.get(name);
      if (!request) {
        const { requesterId } = call;
        request = { name, requesterId, item, categories: acceptable(item), attempts: [], takes: [] };
        requests.set(name, request);
      }
      const { start, end } = call;
      const until = item.coins ? end : stillAtWork(start, end, ofServer, rules);
      const isFenced = closures.explain(call, item.failure);
      request.attempts.push({
        call,
        item,
        start,
        end,
        until,
        coins: item.coins,
        parts: partsOf(item, devices),
        isFenced,
      });
    });
  }
  for (const request of requests.values()) findTakes(request);
  return [...requests.values()];
}

/** Returns the devices of each user that uploaded coins at any time of the run. */
function devicesOf({ calls }: History): Map<string, Set<string>> {
  const devices = new Map<string, Set<string>>();
  for (const call of calls) {
    if (call.kind !== 'upload') continue;
    const known = devices.get(call.userId) ?? new Set();
    devices.set(call.userId, known.add(call.deviceId));
  }
  return devices;
}

function partsOf(item: FetchItem, devices: ReadonlyMap<string, ReadonlySet<string>>): readonly Part[] {
  const { coins, askedDeviceIds } = item;
  if (!askedDeviceIds) return [{ deviceId: item.deviceId, coins }];
  if (item.devices) return item.devices;
  const reached = askedDeviceIds.length > 0 ? askedDeviceIds : [...(devices.get(item.targetUserId) ?? [])];
  return reached.map((deviceId) => ({ deviceId, coins: undefined }));
}

/**
 * Returns the time until which a failed call may be at work. Its request, or the statement that it led to, may wait in
 * a paused link and continue when the link does. Each such fault grants the full time again; two in a row are
 * considered.
 */
function stillAtWork(start: Millis, end: Millis, faults: readonly Fault[], rules: Rules): Millis {
  let until = end + rules.zombieMs;
  for (let round = 0; round < 2; round++) {
    const longest = until;
    for (const fault of faults) {
      if (fault.start <= longest && fault.end >= start) until = Math.max(until, fault.end + rules.zombieMs);
    }
  }
  return until;
}

function findTakes(request: Request): void {
  const from = request.attempts[0]?.start ?? 0;
  const answered = request.attempts.filter((attempt) => attempt.coins && attempt.coins.length > 0);
  for (const attempt of answered.sort((a, b) => a.end - b.end)) {
    const coins = attempt.coins ?? [];
    if (request.takes.some((take) => sameCoins(take.coins, coins))) continue;
    request.takes.push({ request, coins, from, to: attempt.end, attempt });
  }
}

export function sameCoins(a: readonly FetchedCoin[], b: readonly FetchedCoin[]): boolean {
  return a.length === b.length && a.every((coin, index) => coin.keyId === b[index]?.keyId);
}

/**
 * True if the request may have taken coins without an answer: it got none, or only after the grace, as a second fetch.
 */
export function isPending(request: Request, rules: Rules): boolean {
  const [first] = request.attempts;
  const [take] = request.takes;
  const isAnswered = first && take && take.to <= first.start + rules.graceMs;
  return !isAnswered && request.attempts.some(({ coins, isFenced }) => coins === undefined && !isFenced);
}
