import type { Millis, Rules } from '../history';
import type { Attempt, Request } from './requests';

/** An attempt that may have locked coins of one user and category without receiving them. */
export interface Holder {
  readonly attempt: Attempt;
  readonly start: Millis;
  readonly until: Millis;
  /** The maximum number of coins that it may have held at one moment in addition to those that it received. */
  readonly spare: number;
  /**
   * The maximum number of other coins that it may have held briefly before it received its own: it locked some, found
   * the rest locked by others, and released them. 0 for a single fetch of one coin.
   */
  readonly transient: number;
}

/** Indexes all holders by user and category, ordered by start. */
export class Holders {
  readonly #byQueue = new Map<string, { holders: Holder[]; longest: Millis }>();

  constructor(requests: readonly Request[], rules: Rules) {
    for (const request of requests) {
      for (const attempt of request.attempts) {
        const holder = toHolder(request, attempt, rules);
        if (holder.spare === 0 && holder.transient === 0) continue;
        for (const category of request.categories) this.#add(request.item.targetUserId, category, holder);
      }
    }
    for (const queue of this.#byQueue.values()) queue.holders.sort((a, b) => a.start - b.start);
  }

  #add(userId: string, category: number, holder: Holder): void {
    const key = `${userId} ${category}`;
    const queue = this.#byQueue.get(key) ?? { holders: [], longest: 0 };
    queue.holders.push(holder);
    queue.longest = Math.max(queue.longest, holder.until - holder.start);
    this.#byQueue.set(key, queue);
  }

  /** Returns the holders that may have held coins of these queues at some moment from `from` to `to`, each once. */
  during(userId: string, categories: readonly number[], from: Millis, to: Millis): Set<Holder> {
    const found = new Set<Holder>();
    for (const category of categories) {
      const queue = this.#byQueue.get(`${userId} ${category}`);
      if (!queue) continue;
      for (let index = lastBefore(queue.holders, to); index >= 0; index--) {
        const holder = queue.holders[index];
        if (!holder || holder.start < from - queue.longest) break;
        if (holder.until >= from) found.add(holder);
      }
    }
    return found;
  }
}

function toHolder(request: Request, attempt: Attempt, rules: Rules): Holder {
  const { start, until, item, coins } = attempt;
  const meetsItself = request.attempts.some(
    (other) => other !== attempt && other.start <= until && other.until >= start,
  );
  // It failed, or gave up waiting, or met its own repeat and released its coins. Any number of them may have been held.
  if (!coins || until - start >= rules.lockTimeoutMs || meetsItself) {
    return { attempt, start, until, spare: item.count, transient: item.count };
  }
  const isAlone = item.count === 1 && attempt.call.items.length === 1;
  return { attempt, start, until, spare: item.count - coins.length, transient: isAlone ? 0 : item.count };
}

/** Returns the index of the last holder that starts at or before `time`. */
function lastBefore(holders: readonly Holder[], time: Millis): number {
  let low = 0;
  let high = holders.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((holders[middle]?.start ?? 0) <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
