import type { FinalTables } from '../history';
import type { Finding } from './breach';
import { type CoinLife, coinKey, describeCoin } from './coins';
import { type Request, requestName, type Take } from './requests';

/**
 * Checks that no coin is the answer to two requests or twice in one answer, and that the tables name the same request.
 */
export function checkOnce(
  coins: ReadonlyMap<string, CoinLife>,
  requests: readonly Request[],
  final: FinalTables,
): Finding {
  const breaches: string[] = [];
  let checked = 0;
  for (const coin of coins.values()) {
    const [first, ...others] = coin.takes;
    if (!first) continue;
    checked++;
    for (const other of others) {
      // Different answers to one request are the concern of the check of repeats.
      if (other.request === first.request) continue;
      breaches.push(`${describeCoin(coin)} was handed out twice: ${describe(first)}; ${describe(other)}`);
    }
  }
  for (const request of requests) {
    for (const take of request.takes) {
      const distinct = new Set(take.coins.map((coin) => coin.keyId));
      if (distinct.size < take.coins.length) breaches.push(`the same coin is in one answer twice: ${describe(take)}`);
    }
  }
  for (const row of final.fetches) {
    const name = requestName(row.requesterId, row.userId, row.requestId);
    for (const keyId of row.keyIds) {
      const take = coins.get(coinKey(row.userId, keyId))?.takes[0];
      if (!take || take.request.name === name || take.request.item.requestId === '') continue;
      breaches.push(
        `coin ${keyId} of ${row.userId} was handed out twice: ${describe(take)}; according to the tables to ${name}`,
      );
    }
  }
  return { promise: 'once', checked, unit: 'coins handed out', breaches };
}

/** Describes a hand-out by call, client, time and request. */
export function describe({ request, attempt }: Take): string {
  return `call ${attempt.call.call} by ${attempt.call.client} (${Math.round(attempt.start)}–${Math.round(attempt.end)} ms) for ${request.name}`;
}
