import type { FinalTables, History, Rules } from '../history';
import type { Finding } from './breach';
import { type CoinLife, describeCoin } from './coins';
import { categoryName, isPending, type Request, requestName } from './requests';

/** The number of coins by final state. It is printed with the verdict. */
export interface Balance {
  uploaded: number;
  inStock: number;
  fetched: number;
  /** Coins that were spent without a received answer: by requests without an answer, or retired. */
  unanswered: number;
  purged: number;
}

/**
 * Checks that every coin whose upload was acknowledged is in stock, was handed out, or was purged when it was due. A
 * coin that is spent without an answer must belong to a request that never got one, or must have been retired. An
 * upload without an answer may have taken effect or not.
 */
export function checkConservation(
  history: History,
  coins: ReadonlyMap<string, CoinLife>,
  requests: readonly Request[],
  final: FinalTables,
  appeared: readonly string[],
  rules: Rules,
): Finding & { balance: Balance } {
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
      const key = `${coin.userId} ${coin.category}`;
      unexplained.set(key, [...(unexplained.get(key) ?? []), coin]);
    } else if (isAcknowledged) {
      if (coin.handOutEnd - rules.skewMs <= final.readAt) balance.purged++;
      else breaches.push(`${describeCoin(coin)} was stored (upload ${coin.uploadId}), but is in no table`);
    }
  }
  breaches.push(...beyondPendingRequests(unexplained, requests, history, rules));
  breaches.push(...unknownFetches(requests, final));
  return { promise: 'conservation', checked: balance.uploaded, unit: 'coins uploaded', breaches, balance };
}

/**
 * Finds coins that were spent without an answer, beyond what the requests without an answer asked for and what was
 * retired.
 */
function beyondPendingRequests(
  unexplained: ReadonlyMap<string, CoinLife[]>,
  requests: readonly Request[],
  history: History,
  rules: Rules,
): string[] {
  const allowed = new Map<string, number>();
  const allow = (userId: string, category: number, count: number) => {
    const key = `${userId} ${category}`;
    allowed.set(key, (allowed.get(key) ?? 0) + count);
  };
  for (const request of requests.filter((one) => isPending(one, rules))) {
    for (const category of request.categories) allow(request.item.targetUserId, category, request.item.count);
  }
  for (const call of history.calls) {
    if (call.kind === 'retire') allow(call.userId, call.category, call.retiredCount ?? Number.POSITIVE_INFINITY);
  }
  const breaches: string[] = [];
  for (const [key, coins] of unexplained) {
    const max = allowed.get(key) ?? 0;
    const [first] = coins;
    if (!first || coins.length <= max) continue;
    breaches.push(
      `${coins.length} ${categoryName(first.category)} coins of ${first.userId} left the stock without an answer, but the requests without an answer asked for only ${max}; for example ${describeCoin(first)}`,
    );
  }
  return breaches;
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
