import type { Finding } from './breach';
import { type CoinLife, describeCoin } from './coins';
import { describe } from './once';

/**
 * Checks that a coin that was handed out is refused by every later upload, is not in stock at the end, and is still
 * recorded.
 */
export function checkSpent(coins: ReadonlyMap<string, CoinLife>): Finding {
  const breaches: string[] = [];
  let checked = 0;
  for (const coin of coins.values()) {
    const [take] = coin.takes;
    if (!take) continue;
    checked++;
    for (const { call, outcome } of coin.uploads) {
      if (call.start < take.to || outcome === undefined || outcome === 'SPENT') continue;
      breaches.push(
        `${describeCoin(coin)} was handed out, ${describe(take)}, but upload ${call.call} at ${Math.round(call.start)} ms was answered with ${outcome}`,
      );
    }
    if (coin.atEnd === 'in stock') {
      breaches.push(`${describeCoin(coin)} was handed out, ${describe(take)}, but is in stock at the end`);
    } else if (coin.atEnd === 'gone') {
      breaches.push(`${describeCoin(coin)} was handed out, ${describe(take)}, but no row records it as spent`);
    }
  }
  return { promise: 'spent', checked, unit: 'coins handed out', breaches };
}
