import { COIN_CATEGORIES } from '../../../gen/aqm/coin/v1/coin_categories';
import type { FinalTables, History, Rules } from '../history';
import type { Finding } from './breach';
import { type CoinLife, describeCoin } from './coins';
import { categoryName, deviceName, isPending, queueName, type Request, requestName } from './requests';

/** The number of coins by final state. It is printed with the verdict. */
export interface Balance {
  uploaded: number;
  inStock: number;
  fetched: number;
  /** Coins that were spent without a received answer: by requests without an answer, or retired, also by a removal. */
  unanswered: number;
  purged: number;
}

/**
 * Checks that every coin whose upload was acknowledged is in stock, was handed out, or was purged when it was due. A
 * coin that is spent without an answer must belong to a request that never got one, or must have been retired. An
 * upload without an answer may have taken effect or not. `ofOtherDevices` describes coins that only the reconcile or
 * removal of another device of the user explains.
 */
export function checkConservation(
  history: History,
  coins: ReadonlyMap<string, CoinLife>,
  requests: readonly Request[],
  final: FinalTables,
  appeared: readonly string[],
  rules: Rules,
): Finding & { balance: Balance; ofOtherDevices: readonly string[] } {
  const breaches = [...appeared];
  const balance: Balance = { uploaded: 0, inStock: 0, fetched: 0, unanswered: 0, purged: 0 };
  const unexplained = new Map<string, CoinLife[]>();
  for (const coin of coins.values()) {
    const isAcknowledged = coin.uploadEnd !== Number.POSITIVE_INFINITY;
    if (isAcknowledged || coin.atEnd !== 'gone' || coin.takes.length > 0) balance.uploaded++;
    for (const take of coin.takes) {
      if (take.coins.some(({ keyId, altered }) => keyId === coin.keyId && altered)) {
        breaches.push(`${describeCoin(coin)} was handed out with key material that differs from the upload`);
      }
    }
    if (coin.takes.length > 0) balance.fetched++;
    else if (coin.atEnd === 'in stock') balance.inStock++;
    else if (coin.atEnd === 'spent') {
      balance.unanswered++;
      const key = queueName(coin.userId, coin.deviceId, coin.category);
      unexplained.set(key, [...(unexplained.get(key) ?? []), coin]);
    } else if (isAcknowledged) {
      if (coin.handOutEnd - rules.skewMs <= final.readAt) balance.purged++;
      else breaches.push(`${describeCoin(coin)} was stored (upload ${coin.uploadId}), but is in no table`);
    }
  }
  const { beyond, ofOtherDevices } = beyondPendingRequests(unexplained, requests, history, rules);
  breaches.push(...beyond, ...unknownFetches(requests, final));
  return {
    promise: 'conservation',
    checked: balance.uploaded,
    unit: 'coins uploaded',
    breaches,
    balance,
    ofOtherDevices,
  };
}

/**
 * Finds coins of one device that were spent without an answer, beyond what the requests without an answer asked for and
 * what was retired.
 */
function beyondPendingRequests(
  unexplained: ReadonlyMap<string, CoinLife[]>,
  requests: readonly Request[],
  history: History,
  rules: Rules,
): { beyond: string[]; ofOtherDevices: string[] } {
  const allowed = new Map<string, number>();
  const allow = (userId: string, deviceId: string, category: number, count: number) => {
    for (const key of [queueName(userId, deviceId, category), `${userId} ${category}`]) add(allowed, key, count);
  };
  for (const request of requests.filter((one) => isPending(one, rules))) {
    const devices = new Set(request.attempts.flatMap(({ parts }) => parts.map(({ deviceId }) => deviceId)));
    for (const category of request.categories) {
      for (const deviceId of devices) allow(request.item.targetUserId, deviceId, category, request.item.count);
    }
  }
  for (const call of history.calls) {
    if (call.kind !== 'retire' && call.kind !== 'remove') continue;
    const categories = call.kind === 'retire' ? [call.category] : COIN_CATEGORIES.map(({ category }) => category);
    for (const category of categories) {
      allow(call.userId, call.deviceId, category, call.retiredCount ?? Number.POSITIVE_INFINITY);
    }
  }
  const ofUser = new Map<string, number>();
  for (const coins of unexplained.values()) {
    for (const { userId, category } of coins) add(ofUser, `${userId} ${category}`, 1);
  }
  const beyond: string[] = [];
  const ofOtherDevices: string[] = [];
  for (const [key, coins] of unexplained) {
    const max = allowed.get(key) ?? 0;
    const [first] = coins;
    if (!first || coins.length <= max) continue;
    const what = `${coins.length} ${categoryName(first.category)} coins of ${deviceName(first.userId, first.deviceId)} left the stock without an answer, but the requests without an answer asked for only ${max}; for example ${describeCoin(first)}`;
    const name = `${first.userId} ${first.category}`;
    // Another device of the user retired as many coins as are missing here.
    if ((ofUser.get(name) ?? 0) <= (allowed.get(name) ?? 0)) ofOtherDevices.push(what);
    else beyond.push(what);
  }
  return { beyond, ofOtherDevices };
}

function add(counts: Map<string, number>, key: string, count: number): void {
  counts.set(key, (counts.get(key) ?? 0) + count);
}

/** Finds rows of coin_fetch that belong to no request. The service assigns an id to requests without one. */
function unknownFetches(requests: readonly Request[], final: FinalTables): string[] {
  const names = new Set(requests.map((request) => request.name));
  const withoutId = new Set(
    requests
      .filter((request) => request.item.requestId === '')
      .map((request) => `${request.requesterId} ${request.item.targetUserId}`),
  );
  return final.fetches
    .filter((row) => !withoutId.has(`${row.requesterId} ${row.userId}`))
    .map((row) => requestName(row.requesterId, row.userId, row.requestId))
    .filter((name) => !names.has(name))
    .map((name) => `the tables hold a record of ${name}, but no client made this request`);
}
