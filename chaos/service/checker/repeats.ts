import type { FinalTables, Rules } from '../history';
import type { Finding } from './breach';
import { type CoinLife, coinKey, describeCoin } from './coins';
import { type Attempt, type Request, requestName, sameCoins } from './requests';

/**
 * Checks that all answers to the same request within the grace are equal once one of them had coins, and that the
 * record in the tables is equal as well. An empty answer is not recorded, so coins after it are allowed. The coins of a
 * request are hard-deleted together.
 */
export function checkRepeats(
  coins: ReadonlyMap<string, CoinLife>,
  requests: readonly Request[],
  final: FinalTables,
  rules: Rules,
): Finding {
  const breaches: string[] = [];
  let checked = 0;
  const remembered = new Map(
    final.fetches.map((row) => [requestName(row.requesterId, row.userId, row.requestId), row]),
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
      if (!sameAnswer(first, answer)) {
        breaches.push(`${request.name} was answered with ${list(first)} and then with ${list(answer)}`);
      }
    }
    const row = remembered.get(request.name);
    const isNewRequest = request.attempts.some((attempt) => attempt.until > graceEnd);
    if (row && !isNewRequest && !isRecord(row, first)) {
      breaches.push(`${request.name} was answered with ${list(first)}, but the tables record ${row.keyIds.join(', ')}`);
    }
    for (const take of request.takes) {
      const lives = take.coins.flatMap(({ keyId }) => coins.get(coinKey(request.item.targetUserId, keyId)) ?? []);
      const kept = lives.find((life) => !life.isBlank);
      if (kept && lives.some((life) => life.isBlank)) {
        breaches.push(`${request.name} was hard-deleted in part: ${describeCoin(kept)} still has its key bytes`);
      }
    }
  }
  return { promise: 'repeat', checked, unit: 'repeats', breaches };
}

function sameAnswer(first: Attempt, answer: Attempt): boolean {
  return sameCoins(first.coins ?? [], answer.coins ?? []) && sameDevices(devicesOf(first), devicesOf(answer));
}

/** True if the row records the coins of the answer, and its devices if it was a fan-out. */
function isRecord({ keyIds, deviceIds = [] }: FinalTables['fetches'][number], answer: Attempt): boolean {
  const recorded = keyIds.map((keyId) => ({ keyId, category: 0, deviceId: '' }));
  return sameCoins(recorded, answer.coins ?? []) && sameDevices(deviceIds, devicesOf(answer));
}

/** Returns the devices of the answer to a fan-out, also those without coins. */
function devicesOf({ item }: Attempt): string[] {
  return item.devices?.map(({ deviceId }) => deviceId) ?? [];
}

function sameDevices(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((device, index) => device === b[index]);
}

function list({ call, parts, end }: Attempt): string {
  const listed = parts.map(({ deviceId, coins = [] }) => {
    const ids = coins.map((coin) => coin.keyId).join(', ') || 'nothing';
    return deviceId === '' ? ids : `${deviceId}: ${ids}`;
  });
  return `[${listed.join('; ')}] (call ${call.call}, ended at ${Math.round(end)} ms)`;
}
