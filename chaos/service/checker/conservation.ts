import type { FinalTables, History, Rules } from '../history';
import type { Finding } from './breach';
import { type CoinLife, describeCoin } from './coins';
import { categoryName, isOpen, type Request, requestName } from './requests';

/** How many coins ended where; printed with the verdict. */
export interface Balance {
  uploaded: number;
  inStock: number;
  fetched: number;
  /** Spent without an answer that arrived: by requests that were given up, or retired. */
  unanswered: number;
  purged: number;
}

/**
 * Every coin whose upload was acknowledged is in stock, or was handed out, or was purged when it was due. One that is
 * spent without an answer must belong to a request that never got one, or have been retired. Uploads without an
 * answer may have happened or not.
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
        breaches.push(`${describeCoin(coin)} was handed out with other key material than was uploaded`);
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
      else breaches.push(`${describeCoin(coin)} was stored (upload ${coin.uploadId}), and is gone without a trace`);
    }
  }
  breaches.push(...beyondOpenRequests(unexplained, requests, history, rules));
  breaches.push(...unknownFetches(requests, final));
  return { promise: 'conservation', checked: balance.uploaded, unit: 'coins uploaded', breaches, balance };
}

/** No more coins may be spent without an answer than the requests without an answer asked for, and were retired. */
function beyondOpenRequests(
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
  for (const request of requests.filter((one) => isOpen(one, rules))) {
    for (const category of request.categories) allow(request.item.targetUserId, category, request.item.count);
  }
  for (const call of history.calls) {
    if (call.kind === 'retire') allow(call.userId, call.category, call.retiredCount ?? Number.POSITIVE_INFINITY);
  }
  const breaches: string[] = [];
  for (const [key, coins] of unexplained) {
    const most = allowed.get(key) ?? 0;
    const [first] = coins;
    if (!first || coins.length <= most) continue;
    breaches.push(
      `${coins.length} ${categoryName(first.category)} coins of ${first.userId} left the stock without an answer, and the requests without an answer asked for ${most}; one is ${describeCoin(first)}`,
    );
  }
  return breaches;
}

/** Every row of coin_fetch belongs to a request that was made. Those without an id are given one by the service. */
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
    .map((name) => `the tables remember ${name}, which nobody made`);
}
