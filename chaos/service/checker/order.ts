import type { FetchedCoin } from '../history';
import type { Finding } from './breach';
import { type CoinLife, coinKey, describeCoin, isBefore, isReinserted } from './coins';
import type { Holders } from './holders';
import { describe } from './once';
import { categoryName, queueName, type Request, type Take } from './requests';

/**
 * Checks the order of hand-outs. Within one answer, categories must run from best to lowest, all of them requested, and
 * within a category the oldest upload must come first; in a fan-out for each device by itself. Between answers whose calls did not overlap, the later one must
 * not contain a coin that was uploaded before one in the earlier answer, unless a third call in flight may have held it
 * at that time and given it back (Holders.mayGiveBack).
 */
export function checkOrder(
  coins: ReadonlyMap<string, CoinLife>,
  requests: readonly Request[],
  holders: Holders,
): Finding {
  const breaches: string[] = [];
  const takes = requests.flatMap((request) => request.takes);
  const queues = new Map<string, { take: Take; lives: readonly CoinLife[] }[]>();
  for (const take of takes) {
    const ofUser = (keyId: string) => coins.get(coinKey(take.request.item.targetUserId, keyId));
    for (const { coins: ofDevice = [] } of take.attempt.parts) breaches.push(...withinDevice(take, ofDevice, ofUser));
    const byQueue = Map.groupBy(
      take.coins.flatMap((coin) => ofUser(coin.keyId) ?? []).filter((life) => !isReinserted(life)),
      (life) => queueName(life.userId, life.deviceId, life.category),
    );
    for (const [key, lives] of byQueue) {
      const queue = queues.get(key) ?? [];
      queue.push({ take, lives });
      queues.set(key, queue);
    }
  }
  for (const queue of queues.values()) breaches.push(...betweenAnswers(queue, holders));
  return { promise: 'order', checked: takes.length, unit: 'answers', breaches };
}

function withinDevice(
  take: Take,
  coins: readonly FetchedCoin[],
  ofUser: (keyId: string) => CoinLife | undefined,
): string[] {
  const breaches: string[] = [];
  const { categories } = take.request;
  let rank = 0;
  let last: CoinLife | undefined;
  for (const { keyId, category } of coins) {
    const life = ofUser(keyId);
    if (life && life.category !== category) {
      breaches.push(`${describeCoin(life)} was answered as ${categoryName(category)}: ${describe(take)}`);
    }
    const next = categories.indexOf(category);
    if (next < rank)
      breaches.push(`${categoryName(category)} was not requested, or is out of order: ${describe(take)}`);
    if (next !== rank) last = undefined;
    rank = next;
    if (life && last && !isReinserted(life) && !isReinserted(last) && isBefore(life, last)) {
      breaches.push(
        `${describeCoin(last)} came before the older ${describeCoin(life)} in one answer: ${describe(take)}`,
      );
    }
    last = life;
  }
  return breaches;
}

/** Sweeps over time and compares each answer with the youngest coins of all answers that ended before it began. */
function betweenAnswers(queue: readonly { take: Take; lives: readonly CoinLife[] }[], holders: Holders): string[] {
  const breaches: string[] = [];
  const byEnd = [...queue].sort((a, b) => a.take.to - b.take.to);
  const byStart = [...queue].sort((a, b) => a.take.from - b.take.from);
  let youngest: { life: CoinLife; take: Take } | undefined;
  const furthest = new Map<number, { life: CoinLife; take: Take }>();
  let ended = 0;
  for (const { take, lives } of byStart) {
    for (; ended < byEnd.length; ended++) {
      const earlier = byEnd[ended];
      if (!earlier || earlier.take.to >= take.from) break;
      if (mayHaveSkipped(earlier.take, earlier.lives, holders)) continue;
      for (const life of earlier.lives) {
        if (!youngest || life.uploadStart > youngest.life.uploadStart) youngest = { life, take: earlier.take };
        const known = furthest.get(life.uploadId);
        if (!known || life.position > known.life.position) furthest.set(life.uploadId, { life, take: earlier.take });
      }
    }
    for (const life of lives) {
      const ofUpload = furthest.get(life.uploadId);
      const overtaken = [youngest, ofUpload].find((other) => other && isBefore(life, other.life));
      if (!overtaken) continue;
      breaches.push(
        `${describeCoin(overtaken.life)} was handed out before the older ${describeCoin(life)}: ${describe(overtaken.take)}; then ${describe(take)}`,
      );
    }
  }
  return breaches;
}

/** True if another call in flight may have held coins briefly and given them back, so that this one skipped them. */
function mayHaveSkipped({ attempt, from, to }: Take, lives: readonly CoinLife[], holders: Holders): boolean {
  const [first] = lives;
  if (!first) return false;
  const inFlight = holders.during(first, [first.category], from, to);
  for (const holder of inFlight) {
    if (holder.attempt !== attempt && holders.mayGiveBack(holder, attempt.call.server)) return true;
  }
  return false;
}
