import type { FetchedCoin, FinalTables, Rules } from '../history';
import type { Finding } from './breach';
import { type Attempt, type Request, requestName, sameCoins } from './requests';

/**
 * After an answer with coins, every answer to the same request that was there within the grace is the same, and so is
 * the row that remembers it. An empty answer is not remembered, so coins after it are no breach.
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
    // The grace runs from the moment at which the coins were taken, which may have been at the first attempt.
    const graceEnd = (request.attempts[0]?.start ?? 0) + rules.graceMs;
    for (const answer of answers) {
      if (answer === first || !answer.coins || answer.end > graceEnd) continue;
      // It may have looked before the coins were there.
      if (answer.coins.length === 0 && answer.start < first.end) continue;
      checked++;
      if (!sameCoins(first.coins, answer.coins)) {
        breaches.push(`${request.name} was answered with ${list(first)} and then with ${list(answer)}`);
      }
    }
    const row = remembered.get(request.name);
    const isNewRequest = request.attempts.some((attempt) => attempt.until > graceEnd);
    if (row && !isNewRequest && !sameCoins(first.coins, row.map(asCoin))) {
      breaches.push(`${request.name} was answered with ${list(first)}, and the tables remember ${row.join(', ')}`);
    }
  }
  return { promise: 'repeat', checked, unit: 'repeats', breaches };
}

const asCoin = (keyId: string): FetchedCoin => ({ keyId, category: 0 });

function list({ call, coins = [] }: Attempt): string {
  const ids = coins.map((coin) => coin.keyId).join(', ') || 'nothing';
  return `[${ids}] (call ${call.call}, ended at ${Math.round(call.end)} ms)`;
}
