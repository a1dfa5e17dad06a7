import type { FetchedCoin, FinalTables, Rules } from '../history';
import type { Finding } from './breach';
import { type Attempt, type Request, requestName, sameCoins } from './requests';

/**
 * Checks that all answers to the same request within the grace are equal once one of them had coins, and that the
 * record in the tables is equal as well. An empty answer is not recorded, so coins after it are allowed.
 */
export function checkRepeats(requests: readonly Request[], final: FinalTables, rules: Rules): Finding {
  const breaches: string[] = [];
  let checked = 0;
  const remembered = new Map(
    final.fetches.map((row) => [requestName(row.requesterId, row.userId, row.requestId), row.keyIds]),
  );
  for (const request of requests) {
    const answers = request.attempts.filter((attempt) => attempt.coins).sort((a, b) => a.end - b.end);
    const first = answers.find(({ coins }) => coins && coins.length > 0);
    if (!first?.coins) continue;
    // The grace begins when the coins were taken, which may have been during the first attempt.
    const graceEnd = (request.attempts[0]?.start ?? 0) + rules.graceMs;
    for (const answer of answers) {
      if (answer === first || !answer.coins || answer.end > graceEnd) continue;
      // It may have read the stock before the coins were stored.
      if (answer.coins.length === 0 && answer.start < first.end) continue;
      checked++;
      if (!sameCoins(first.coins, answer.coins)) {
        breaches.push(`${request.name} was answered with ${list(first)} and then with ${list(answer)}`);
      }
    }
    const row = remembered.get(request.name);
    const isNewRequest = request.attempts.some((attempt) => attempt.until > graceEnd);
    if (row && !isNewRequest && !sameCoins(first.coins, row.map(asCoin))) {
      breaches.push(`${request.name} was answered with ${list(first)}, but the tables record ${row.join(', ')}`);
    }
  }
  return { promise: 'repeat', checked, unit: 'repeats', breaches };
}

const asCoin = (keyId: string): FetchedCoin => ({ keyId, category: 0 });

function list({ call, coins = [] }: Attempt): string {
  const ids = coins.map((coin) => coin.keyId).join(', ') || 'nothing';
  return `[${ids}] (call ${call.call}, ended at ${Math.round(call.end)} ms)`;
}
