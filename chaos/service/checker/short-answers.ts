import type { Millis, Rules } from '../history';
import type { Finding } from './breach';
import { type CoinLife, describeCoin, isReinserted, staysUntil } from './coins';
import type { Holder, Holders } from './holders';
import { type Attempt, categoryName, queueName, type Request } from './requests';

/** An answer with fewer coins of one device and of these categories than requested. */
interface ShortAnswer {
  readonly request: Request;
  readonly attempt: Attempt;
  readonly deviceId: string;
  readonly categories: readonly number[];
  readonly got: number;
  /** The interval in which the service read the stock. */
  readonly from: Millis;
  readonly to: Millis;
  /** True if it was filled up from lower categories. Such a fetch skips locked coins instead of waiting for them. */
  readonly filledUp: boolean;
}

/**
 * Checks short answers. One is a violation if more coins were in stock from before it began until after it ended than
 * all calls in flight could hold, because at least one of them was then free at every moment. With fallback this
 * applies to each category above the lowest in the answer.
 */
export function checkShortAnswers(
  coins: ReadonlyMap<string, CoinLife>,
  requests: readonly Request[],
  holders: Holders,
  rules: Rules,
): Finding {
  const queues = new Map<string, { coin: CoinLife; from: Millis; to: Millis }[]>();
  for (const coin of coins.values()) {
    const to = staysUntil(coin, rules);
    if (isReinserted(coin) || !(coin.uploadEnd < to)) continue;
    const key = queueName(coin.userId, coin.deviceId, coin.category);
    const queue = queues.get(key) ?? [];
    queue.push({ coin, from: coin.uploadEnd, to });
    queues.set(key, queue);
  }
  for (const queue of queues.values()) queue.sort((a, b) => a.to - b.to);

  const breaches: string[] = [];
  const shorts = requests.flatMap(shortAnswers);
  for (const short of shorts) {
    const { request, from, to } = short;
    const held = mayBeHeld(short, holders);
    const free: CoinLife[] = [];
    for (const category of short.categories) {
      const queue = queues.get(queueName(request.item.targetUserId, short.deviceId, category)) ?? [];
      for (let index = firstAfter(queue, to); index < queue.length; index++) {
        const stay = queue[index];
        if (stay && stay.from < from) free.push(stay.coin);
      }
    }
    if (free.length > held) breaches.push(describeShort(short, free, held));
  }
  return { promise: 'short', checked: shorts.length, unit: 'short answers', breaches };
}

function shortAnswers(request: Request): ShortAnswer[] {
  const found: ShortAnswer[] = [];
  const firstStart = request.attempts[0]?.start ?? 0;
  const { count } = request.item;
  for (const attempt of request.attempts) {
    if (!attempt.coins) continue;
    const { end: to } = attempt;
    // An empty answer was decided in this attempt; any other answer perhaps in the first attempt.
    const from = attempt.coins.length === 0 ? attempt.start : firstStart;
    for (const { deviceId, coins = [] } of attempt.parts) {
      for (let depth = 1; depth <= request.categories.length; depth++) {
        const categories = request.categories.slice(0, depth);
        const got = coins.filter((coin) => categories.includes(coin.category)).length;
        const filledUp = coins.length === count;
        if (got < count) found.push({ request, attempt, deviceId, categories, got, from, to, filledUp });
      }
    }
  }
  return found;
}

function mayBeHeld(short: ShortAnswer, holders: Holders): number {
  const { request, attempt, deviceId, categories, from, to, filledUp } = short;
  let held = 0;
  const amount = ({ spare, transient, isRepeat, attempt: { item } }: Holder) =>
    filledUp ? Math.max(spare, transient, isRepeat ? item.count : 0) : spare;
  for (const holder of holders.during({ userId: request.item.targetUserId, deviceId }, categories, from, to)) {
    if (holder.attempt !== attempt) held += amount(holder);
  }
  return held;
}

/** Returns the index of the first stay that ends after `time`. */
function firstAfter(queue: readonly { to: Millis }[], time: Millis): number {
  let low = 0;
  let high = queue.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((queue[middle]?.to ?? 0) <= time) low = middle + 1;
    else high = middle;
  }
  return low;
}

function describeShort({ request, attempt, categories, got, from, to }: ShortAnswer, free: CoinLife[], held: number) {
  const names = categories.map(categoryName).join(', ');
  const { call, client } = attempt.call;
  const [example] = free;
  return `call ${call} by ${client} got ${got} of ${request.item.count} from ${names} for ${request.name}, while (${Math.round(from)}–${Math.round(to)} ms) ${free.length} coins stayed in stock, of which calls in flight could hold at most ${held}; for example ${example ? describeCoin(example) : ''}`;
}
