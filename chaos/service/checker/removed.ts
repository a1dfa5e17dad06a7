import type { FinalTables, History } from '../history';
import type { Finding } from './breach';
import { type CoinLife, describeCoin } from './coins';
import { describe } from './once';
import type { Removals } from './removals';
import { deviceName, type Request, type Take } from './requests';

/**
 * Checks what follows the answer to a removal: no request that began later gets a coin of the device, no later upload
 * by the device is answered, it is neither listed nor counted, and it has no stock at the end. A request that began
 * earlier may have taken its coins before the removal, and repeats of it are answered.
 */
export function checkRemoved(
  history: History,
  coins: ReadonlyMap<string, CoinLife>,
  requests: readonly Request[],
  final: FinalTables,
  removals: Removals,
): Finding {
  const breaches: string[] = [];
  for (const coin of coins.values()) {
    const removedAt = removals.endOf(coin.userId, coin.deviceId);
    for (const take of coin.takes) {
      if (mayHaveTakenBefore(take, removedAt)) continue;
      breaches.push(`${describeCoin(coin)} was handed out after the removal: ${describe(take)}`);
    }
    if (coin.atEnd === 'in stock' && removedAt < final.readAt) {
      breaches.push(`${describeCoin(coin)} is in stock at the end, but the device was removed`);
    }
  }
  for (const { item, attempts } of requests) {
    // An answer with coins may be that of the first attempt.
    for (const { call, coins: answer, parts } of item.askedDeviceIds ? attempts : []) {
      const asOf = answer?.length ? (attempts[0]?.start ?? 0) : call.start;
      for (const { deviceId, coins: ofDevice } of parts) {
        if (ofDevice === undefined || asOf <= removals.endOf(item.targetUserId, deviceId)) continue;
        breaches.push(
          `call ${call.call} by ${call.client} listed ${deviceName(item.targetUserId, deviceId)} after its removal`,
        );
      }
    }
  }
  for (const call of history.calls) {
    const wasRemoved = (userId: string, deviceId: string) => removals.endOf(userId, deviceId) < call.start;
    const report = (what: string, userId: string, deviceId: string) =>
      breaches.push(
        `call ${call.call} by ${call.client} at ${Math.round(call.start)} ms ${what} ${deviceName(userId, deviceId)} after its removal`,
      );
    if (call.kind === 'upload' && call.outcomes && wasRemoved(call.userId, call.deviceId)) {
      report(
        `was answered with ${[...new Set(call.outcomes)].join(', ')} for an upload by`,
        call.userId,
        call.deviceId,
      );
    } else if (call.kind === 'count' && call.available && wasRemoved(call.userId, call.deviceId)) {
      if (Object.values(call.available).some((count) => count > 0))
        report('counted coins of', call.userId, call.deviceId);
    } else if (call.kind === 'list') {
      for (const { deviceId } of call.devices ?? []) {
        if (wasRemoved(call.userId, deviceId)) report('listed', call.userId, deviceId);
      }
    }
  }
  for (const row of final.devices) {
    if (row.isRemoved || removals.endOf(row.userId, row.deviceId) >= final.readAt) continue;
    breaches.push(`the tables do not record the removal of ${deviceName(row.userId, row.deviceId)}`);
  }
  return { promise: 'removed', checked: removals.count, unit: 'devices removed', breaches };
}

/** True if an attempt that began before the removal may have taken the coins. One with an empty answer did not. */
function mayHaveTakenBefore({ request }: Take, removedAt: number): boolean {
  return request.attempts.some(({ start, coins }) => start <= removedAt && coins?.length !== 0);
}
