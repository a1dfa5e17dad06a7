import type { Finding } from './breach';
import { type CoinLife, coinKey, describeCoin, isBefore, isReinserted } from './coins';
import type { Holders } from './holders';
import { describe } from './once';
import { categoryName, type Request, type Take } from './requests';

/**
 * Within one answer: the categories from best to lowest, none that was not asked for, and in each the oldest upload
 * first. Between answers whose calls did not overlap: no coin in the later one that was uploaded before one in the
 * earlier one, unless a third call in flight may have held it when the earlier one came by.
 */
export function checkOrder(
  coins: ReadonlyMap<string, CoinLife>,
  requests: readonly Request[],
  holders: Holders,
): Finding {
  const breaches: string[] = [];
  const takes = requests.flatMap((request) => request.takes);
  const queues = new Map<string, { take: Take; lives: CoinLife[] }[]>();
  for (const take of takes) {
    const ofUser = (keyId: string) => coins.get(coinKey(take.request.item.targetUserId, keyId));
    breaches.push(...withinAnswer(take, ofUser));
    const byCategory = Map.groupBy(
      take.coins.flatMap((coin) => ofUser(coin.keyId) ?? []).filter((life) => !isReinserted(life)),
      (life) => life.category,
    );
    for (const [category, lives] of byCategory) {
      const key = `${take.request.item.targetUserId} ${category}`;
      const queue = queues.get(key) ?? [];
      queue.push({ take, lives });
      queues.set(key, queue);
    }
  }
  for (const queue of queues.values()) breaches.push(...betweenAnswers(queue, holders));
  return { promise: 'order', checked: takes.length, unit: 'answers', breaches };
}

function withinAnswer(take: Take, ofUser: (keyId: string) => CoinLife | undefined): string[] {
  const breaches: string[] = [];
  const { categories } = take.request;
  let rank = 0;
  let last: CoinLife | undefined;
  for (const { keyId, category } of take.coins) {
    const life = ofUser(keyId);
    if (life && life.category !== category) {
      breaches.push(`${describeCoin(life)} was answered as ${categoryName(category)}: ${describe(take)}`);
    }
    const next = categories.indexOf(category);
    if (next < rank) breaches.push(`${categoryName(category)} is not wanted there: ${describe(take)}`);
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

/** Sweeps over time: each answer is held against the youngest coins of all answers that ended before it began. */
function betweenAnswers(queue: readonly { take: Take; lives: CoinLife[] }[], holders: Holders): string[] {
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

/** Another call was in flight that may have held coins for a while, so that this one stepped over them. */
function mayHaveSkipped({ request, attempt, from, to }: Take, lives: readonly CoinLife[], holders: Holders): boolean {
  const categories = [...new Set(lives.map((life) => life.category))];
  const inFlight = holders.during(request.item.targetUserId, categories, from, to);
  return [...inFlight].some((holder) => holder.passing > 0 && holder.attempt !== attempt);
}
