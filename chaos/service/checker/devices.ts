import type { DeviceAnswer, FinalTables, History, Millis } from '../history';
import type { Finding } from './breach';
import { type CoinLife, coinKey, describeCoin, STOCKED } from './coins';
import { KnownDevices } from './known-devices';
import type { Removals } from './removals';
import { type Attempt, deviceName, type Part, queueName, type Request } from './requests';

interface Facts {
  readonly removals: Removals;
  /** Coins that another device of the user retired. See checkConservation. */
  readonly ofOtherDevices: readonly string[];
  readonly skewMs: Millis;
}

/**
 * Checks that the devices of a user do not touch each other: every coin of an answer belongs to the device for which it
 * is answered, and says so; no upload stores a coin of another device or under the token of another one; a reconcile
 * retires only coins of its device; a count contains no others. A fan-out and a list of devices contain each device of
 * the user that was asked for, once, in the order of the ids, and a fan-out at most the requested coins for each.
 */
export function checkDevices(
  history: History,
  coins: ReadonlyMap<string, CoinLife>,
  requests: readonly Request[],
  final: FinalTables,
  { removals, ofOtherDevices, skewMs }: Facts,
): Finding {
  const breaches = [...ofOtherDevices];
  const known = new KnownDevices(history, removals);
  let checked = 0;
  for (const request of requests) {
    for (const attempt of request.attempts) {
      if (!attempt.coins) continue;
      checked += attempt.parts.length;
      breaches.push(...attempt.parts.flatMap((part) => wrongCoins(request, attempt, part, coins)));
      if (attempt.item.devices) breaches.push(...wrongDevices(request, attempt, attempt.item.devices, known));
    }
  }
  for (const coin of coins.values()) breaches.push(...strays(coin));
  for (const row of final.coins) {
    const coin = coins.get(coinKey(row.userId, row.keyId));
    if (!coin || coin.deviceId === row.deviceId) continue;
    breaches.push(`the tables assign ${describeCoin(coin)} to ${deviceName(row.userId, row.deviceId)}`);
  }
  const most = new MostCoins(coins.values(), skewMs);
  for (const call of history.calls) {
    if (call.kind === 'count' && call.available && !call.isMismatched) {
      breaches.push(...most.exceeded(call.call, call, call.available, call));
    } else if (call.kind === 'list' && call.devices) {
      const ids = call.devices.map(({ deviceId }) => deviceId);
      breaches.push(...known.wrongList(ids, [], call.userId, call).map((what) => `call ${call.call} ${what}`));
      for (const { deviceId, available } of call.devices) {
        breaches.push(...most.exceeded(call.call, { userId: call.userId, deviceId }, available, call));
      }
    }
    if ('isMismatched' in call && call.isMismatched && !call.failure) {
      const name = deviceName(call.userId, call.deviceId);
      breaches.push(
        `call ${call.call} (${call.kind}) was answered for ${name} although its token names another device`,
      );
    }
  }
  return { promise: 'devices', checked, unit: 'answers for a device', breaches };
}

/** Finds coins of an answer for one device that belong to another one, or name another one, or are too many. */
function wrongCoins(
  { name, item }: Request,
  { call }: Attempt,
  { deviceId, coins: answer = [] }: Part,
  coins: ReadonlyMap<string, CoinLife>,
): string[] {
  const asked = `${deviceName(item.targetUserId, deviceId)} in call ${call.call} by ${call.client} for ${name}`;
  const breaches: string[] = [];
  if (answer.length > item.count) breaches.push(`${answer.length} coins instead of ${item.count} for ${asked}`);
  for (const coin of answer) {
    const life = coins.get(coinKey(item.targetUserId, coin.keyId));
    if (life && life.deviceId !== deviceId) breaches.push(`${describeCoin(life)} was answered for ${asked}`);
    if (coin.deviceId === deviceId) continue;
    breaches.push(
      `coin ${coin.keyId} names ${deviceName(item.targetUserId, coin.deviceId)}, but was answered for ${asked}`,
    );
  }
  return breaches;
}

function wrongDevices(
  request: Request,
  attempt: Attempt,
  answer: readonly DeviceAnswer[],
  known: KnownDevices,
): string[] {
  const { targetUserId, askedDeviceIds = [] } = attempt.item;
  // An answer with coins may be that of the first attempt.
  const start = attempt.coins?.length ? (request.attempts[0]?.start ?? 0) : attempt.start;
  const ids = answer.map(({ deviceId }) => deviceId);
  return known
    .wrongList(ids, askedDeviceIds, targetUserId, { start, end: attempt.end })
    .map((what) => `call ${attempt.call.call} by ${attempt.call.client} for ${request.name} ${what}`);
}

/** Finds uploads that stored a coin of another device, or under the token of another device. */
function strays(coin: CoinLife): string[] {
  const breaches: string[] = [];
  for (const { call, outcome } of coin.strays) {
    if (outcome === undefined || !STOCKED.includes(outcome) || call.start < coin.uploadEnd) continue;
    const by = deviceName(call.userId, call.deviceId);
    breaches.push(
      `${describeCoin(coin)} was uploaded by ${by} (call ${call.call}), which was answered with ${outcome}`,
    );
  }
  if (coin.uploads.length === 0 && coin.atEnd !== 'gone') {
    breaches.push(`${describeCoin(coin)} was stored although the token of its upload names another device`);
  }
  return breaches;
}

/** Knows how many coins of a device may have been in stock at a time. */
class MostCoins {
  /** For each queue, in ascending order: when its coins may have been stored at the earliest, and were gone at the latest. */
  readonly #stored = new Map<string, Millis[]>();
  readonly #gone = new Map<string, Millis[]>();

  constructor(coins: Iterable<CoinLife>, skewMs: Millis) {
    for (const coin of coins) {
      const key = queueName(coin.userId, coin.deviceId, coin.category);
      append(this.#stored, key, coin.uploadStart);
      append(this.#gone, key, Math.min(coin.handOutEnd + skewMs, ...coin.takes.map((take) => take.to)));
    }
    for (const times of [...this.#stored.values(), ...this.#gone.values()]) times.sort((a, b) => a - b);
  }

  exceeded(
    call: number,
    { userId, deviceId }: { readonly userId: string; readonly deviceId: string },
    available: Readonly<Record<number, number>>,
    { start, end }: { readonly start: Millis; readonly end: Millis },
  ): string[] {
    return Object.entries(available).flatMap(([category, count]) => {
      const key = queueName(userId, deviceId, Number(category));
      const most = countBelow(this.#stored.get(key), end) - countBelow(this.#gone.get(key), start);
      const what = `call ${call} counted ${count} coins of category ${category} of ${deviceName(userId, deviceId)}, which has at most ${most}`;
      return count > most ? [what] : [];
    });
  }
}

function append(lists: Map<string, Millis[]>, key: string, time: Millis): void {
  const list = lists.get(key);
  if (list) list.push(time);
  else lists.set(key, [time]);
}

/** Returns the number of ascending times before `time`. */
function countBelow(times: readonly Millis[] = [], time: Millis): number {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((times[middle] ?? 0) < time) low = middle + 1;
    else high = middle;
  }
  return low;
}
