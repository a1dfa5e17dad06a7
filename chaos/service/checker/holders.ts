import type { Millis, Rules } from '../history';
import { type CoinLife, staysUntil } from './coins';
import { type Attempt, type Part, queueName, type Request } from './requests';

/** An attempt that may have locked coins of one device. */
export interface Holder {
  readonly attempt: Attempt;
  readonly start: Millis;
  readonly until: Millis;
  /** The maximum number of coins that it may have held at one moment in addition to those that it received. */
  readonly spare: number;
  /**
   * The maximum number of other coins that it may have held briefly before it received its own: it locked some, found
   * the rest locked by others, and released them. 0 while there are enough coins for all.
   */
  readonly transient: number;
  /** True if its request was attempted before. */
  readonly isRepeat: boolean;
}

/** The time after which a service begins its next statement although one is still running. */
const STALL_MS = 250;

/** Indexes all attempts by user, device and category, ordered by start. */
export class Holders {
  readonly #byQueue = new Map<string, { holders: Holder[]; longest: Millis }>();
  /** The repeats at each service, and those of them that took so long that other statements ran beside them. */
  readonly #repeats: Map<number, Spans>;
  readonly #stalled: Map<number, Spans>;

  constructor(coins: Iterable<CoinLife>, requests: readonly Request[], rules: Rules) {
    const stock = new Stock(coins, requests, rules);
    const repeats: Attempt[] = [];
    for (const request of requests) {
      for (const attempt of request.attempts) {
        const toHolder = holderOf(request, attempt, stock, rules);
        for (const part of attempt.parts) {
          const holder = toHolder(part);
          for (const category of request.categories) {
            this.#add(queueName(request.item.targetUserId, part.deviceId, category), holder);
          }
        }
        if (isRepeated(request, attempt)) repeats.push(attempt);
      }
    }
    for (const queue of this.#byQueue.values()) queue.holders.sort((a, b) => a.start - b.start);
    const serverOf = ({ call }: Attempt) => call.server;
    this.#repeats = spansBy(repeats, serverOf);
    this.#stalled = spansBy(
      repeats.filter(({ start, until }) => until - start >= STALL_MS),
      serverOf,
    );
  }

  #add(key: string, holder: Holder): void {
    const queue = this.#byQueue.get(key) ?? { holders: [], longest: 0 };
    queue.holders.push(holder);
    queue.longest = Math.max(queue.longest, holder.until - holder.start);
    this.#byQueue.set(key, queue);
  }

  /** Returns the holders that may have held coins of these queues at some moment from `from` to `to`, each once. */
  during(
    { userId, deviceId }: { readonly userId: string; readonly deviceId: string },
    categories: readonly number[],
    from: Millis,
    to: Millis,
  ): Set<Holder> {
    const found = new Set<Holder>();
    for (const category of categories) {
      const queue = this.#byQueue.get(queueName(userId, deviceId, category));
      if (!queue) continue;
      for (let index = countUpTo(queue.holders, to, ({ start }) => start) - 1; index >= 0; index--) {
        const holder = queue.holders[index];
        if (!holder || holder.start < from - queue.longest) break;
        if (holder.until >= from) found.add(holder);
      }
    }
    return found;
  }

  /**
   * True if the holder may have given back coins that it had locked for itself, while another attempt at `server` took
   * its own. It does if it ran short. And a statement that contains a repeat gives back what it locked. For the
   * statements of one process that makes no difference, because they run one after the other, unless one stalls; but
   * fan-outs run beside other statements of their process.
   */
  mayGiveBack({ attempt, transient, start, until, isRepeat }: Holder, server: number): boolean {
    if (isRepeat && attempt.item.askedDeviceIds) return true;
    const ofServer = attempt.call.server;
    const repeats = ofServer === server ? this.#stalled : this.#repeats;
    return transient > 0 || (repeats.get(ofServer)?.countDuring(start, until) ?? 0) > 0;
  }
}

function holderOf(request: Request, attempt: Attempt, stock: Stock, rules: Rules): (part: Part) => Holder {
  const { start, until, item, coins } = attempt;
  const meetsItself = request.attempts.some(
    (other) => other !== attempt && other.start <= until && other.until >= start,
  );
  const isRepeat = isRepeated(request, attempt) || meetsItself;
  // It failed, or gave up waiting, or met its own repeat and released its coins. Any number of them may have been held.
  if (!coins || until - start >= rules.lockTimeoutMs || meetsItself) {
    return () => ({ attempt, start, until, spare: item.count, transient: item.count, isRepeat });
  }
  // An attempt that runs short of one device's coins gives back those of all devices.
  const mayRunShort = attempt.parts.some(({ deviceId }) => stock.mayRunShort(request, attempt, deviceId));
  const transient = mayRunShort ? item.count : 0;
  return (part) => {
    const spare = Math.max(0, item.count - (part.coins?.length ?? 0));
    return { attempt, start, until, spare, transient, isRepeat };
  };
}

function isRepeated(request: Request, attempt: Attempt): boolean {
  return request.attempts[0] !== attempt;
}

/** Knows whether there were enough coins of a device for all attempts in flight. */
class Stock {
  readonly #stays = new Map<string, { readonly from: Millis; readonly to: Millis }[]>();
  readonly #demands: Map<string, Spans>;

  constructor(coins: Iterable<CoinLife>, requests: readonly Request[], rules: Rules) {
    for (const coin of coins) {
      const to = staysUntil(coin, rules);
      if (coin.uploadEnd < to)
        append(this.#stays, queueName(coin.userId, coin.deviceId, coin.category), { from: coin.uploadEnd, to });
    }
    for (const stays of this.#stays.values()) stays.sort((a, b) => a.to - b.to);
    const demands = new Map<string, Attempt[]>();
    for (const attempt of requests.flatMap(({ attempts }) => attempts)) {
      for (const { deviceId } of attempt.parts) append(demands, `${attempt.item.targetUserId} ${deviceId}`, attempt);
    }
    this.#demands = new Map([...demands].map(([key, attempts]) => [key, new Spans(attempts)]));
  }

  /** False if more coins of its first category stayed in stock during the attempt than all attempts in flight asked for. */
  mayRunShort({ item, categories }: Request, { start, until }: Attempt, deviceId: string): boolean {
    const stays = this.#stays.get(queueName(item.targetUserId, deviceId, categories[0] ?? 0)) ?? [];
    let wanted = this.#demands.get(`${item.targetUserId} ${deviceId}`)?.countDuring(start, until) ?? 0;
    let later = 0;
    // Coins leave the stock about in the order in which they came.
    for (let index = countUpTo(stays, until, ({ to }) => to); index < stays.length && later < 1000; index++) {
      if ((stays[index]?.from ?? 0) < start) wanted -= 1;
      else later += 1;
      if (wanted < 0) return false;
    }
    return true;
  }
}

/** Counts the coins that attempts in flight asked for. */
class Spans {
  readonly #starts: readonly Total[];
  readonly #ends: readonly Total[];

  constructor(attempts: readonly Attempt[]) {
    this.#starts = totals(attempts, ({ start }) => start);
    this.#ends = totals(attempts, ({ until }) => until);
  }

  /** Returns the number of coins of all attempts that were in flight at some moment from `from` to `to`. */
  countDuring(from: Millis, to: Millis): number {
    const begun = this.#starts[countUpTo(this.#starts, to, ({ at }) => at) - 1]?.count ?? 0;
    // One that ends at `from` was still in flight then.
    const ended = this.#ends[countUpTo(this.#ends, from - 1e-6, ({ at }) => at) - 1]?.count ?? 0;
    return begun - ended;
  }
}

/** A time, and the number of coins of all attempts up to it. */
interface Total {
  readonly at: Millis;
  readonly count: number;
}

function totals(attempts: readonly Attempt[], timeOf: (attempt: Attempt) => Millis): Total[] {
  let count = 0;
  return attempts
    .map((attempt) => ({ at: timeOf(attempt), coins: attempt.item.count }))
    .sort((a, b) => a.at - b.at)
    .map(({ at, coins }) => {
      count += coins;
      return { at, count };
    });
}

function spansBy<Key>(attempts: readonly Attempt[], keyOf: (attempt: Attempt) => Key): Map<Key, Spans> {
  return new Map([...Map.groupBy(attempts, keyOf)].map(([key, ofKey]) => [key, new Spans(ofKey)]));
}

function append<T>(lists: Map<string, T[]>, key: string, value: T): void {
  const list = lists.get(key);
  if (list) list.push(value);
  else lists.set(key, [value]);
}

/** Returns how many of the ordered values are at most `time`. */
function countUpTo<T>(ordered: readonly T[], time: Millis, timeOf: (value: T) => Millis): number {
  let low = 0;
  let high = ordered.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const value = ordered[middle];
    if (value !== undefined && timeOf(value) <= time) low = middle + 1;
    else high = middle;
  }
  return low;
}
