import type { Finding } from './breach';
import { type CoinLife, describeCoin } from './coins';
import { describe } from './once';

/** What was handed out is refused at every upload that begins later, is not in stock at the end, and is still known. */
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
        `${describeCoin(coin)} was handed out, ${describe(take)}, and upload ${call.call} at ${Math.round(call.start)} ms answered ${outcome}`,
      );
    }
    if (coin.atEnd === 'in stock') {
      breaches.push(`${describeCoin(coin)} was handed out, ${describe(take)}, and is in stock at the end`);
    } else if (coin.atEnd === 'gone') {
      breaches.push(`${describeCoin(coin)} was handed out, ${describe(take)}, and nothing remembers that it is spent`);
    }
  }
  return { promise: 'spent', checked, unit: 'coins handed out', breaches };
}
