import { COIN_CATEGORIES } from '../../../gen/aqm/coin/v1/coin_categories';
import type { Fault, FetchCall, FetchedCoin, FetchItem, History, Millis, Rules } from '../history';

/** One item of one call: one attempt to get the coins of a request. */
export interface Attempt {
  readonly call: FetchCall;
  readonly item: FetchItem;
  readonly start: Millis;
  readonly end: Millis;
  /** Until when it may hold coins or take effect: its end, or later when it failed. */
  readonly until: Millis;
  /** The answer; undefined when it failed. */
  readonly coins: readonly FetchedCoin[] | undefined;
}

/** Coins that left the stock together, some time between `from` and `to`. */
export interface Take {
  readonly request: Request;
  readonly coins: readonly FetchedCoin[];
  readonly from: Millis;
  readonly to: Millis;
  /** The attempt that brought them first. */
  readonly attempt: Attempt;
}

/** All attempts with one (requester, target, request id); a fetch without an id is a request of its own. */
export interface Request {
  readonly name: string;
  readonly requesterId: string;
  readonly item: FetchItem;
  /** What may answer it, the best first. */
  readonly categories: readonly number[];
  readonly attempts: Attempt[];
  /** One, unless a promise is broken. */
  readonly takes: Take[];
}

/** Name of what a (requester, target, request id) asked for; as the rows of coin_fetch name it. */
export function requestName(requesterId: string, targetUserId: string, requestId: string): string {
  return `${requestId} of ${requesterId} on ${targetUserId}`;
}

export function categoryName(category: number): string {
  return COIN_CATEGORIES.find((spec) => spec.category === category)?.name ?? String(category);
}

function acceptable({ category, allowLower }: FetchItem): number[] {
  const wanted = COIN_CATEGORIES.find((spec) => spec.category === category)?.preference ?? 0;
  return COIN_CATEGORIES.filter((spec) => spec.category === category || (allowLower && spec.preference < wanted)).map(
    (spec) => spec.category,
  );
}

/** Gathers the attempts of every request, in the order of their starts, and what they took. */
export function gatherRequests({ calls, faults }: History, rules: Rules): Request[] {
  const requests = new Map<string, Request>();
  const fetches = calls.filter((call) => call.kind === 'fetch').sort((a, b) => a.start - b.start);
  const servers = new Map<number, Fault[]>();
  for (const call of fetches) {
    let ofServer = servers.get(call.server);
    if (!ofServer) {
      ofServer = faults.filter((fault) => fault.server === undefined || fault.server === call.server);
      servers.set(call.server, ofServer);
    }
    call.items.forEach((item, index) => {
      const name =
        item.requestId === ''
          ? `call ${call.call} item ${index}`
          : requestName(call.requesterId, item.targetUserId, item.requestId);
      let request = requests.get(name);
      if (!request) {
        const { requesterId } = call;
        request = { name, requesterId, item, categories: acceptable(item), attempts: [], takes: [] };
        requests.set(name, request);
      }
      const { start, end } = call;
      const until = item.coins ? end : stillAtWork(start, end, ofServer, rules);
      request.attempts.push({ call, item, start, end, until, coins: item.coins });
    });
  }
  for (const request of requests.values()) findTakes(request);
  return [...requests.values()];
}

/**
 * Until when a failed call may be at work. Its request, or the statement that it led to, may lie in a link that is
 * paused and go on when the link does; each such fault gives it its time anew. Two in a row are allowed for.
 */
function stillAtWork(start: Millis, end: Millis, faults: readonly Fault[], rules: Rules): Millis {
  let until = end + rules.zombieMs;
  for (let round = 0; round < 2; round++) {
    const longest = until;
    for (const fault of faults) {
      if (fault.start <= longest && fault.end >= start) until = Math.max(until, fault.end + rules.zombieMs);
    }
  }
  return until;
}

function findTakes(request: Request): void {
  const from = request.attempts[0]?.start ?? 0;
  const answered = request.attempts.filter((attempt) => attempt.coins && attempt.coins.length > 0);
  for (const attempt of answered.sort((a, b) => a.end - b.end)) {
    const coins = attempt.coins ?? [];
    if (request.takes.some((take) => sameCoins(take.coins, coins))) continue;
    request.takes.push({ request, coins, from, to: attempt.end, attempt });
  }
}

export function sameCoins(a: readonly FetchedCoin[], b: readonly FetchedCoin[]): boolean {
  return a.length === b.length && a.every((coin, index) => coin.keyId === b[index]?.keyId);
}

/** A request that may have taken coins that no answer brought: none came, or only after the grace, for a second fetch. */
export function isOpen(request: Request, rules: Rules): boolean {
  const [first] = request.attempts;
  const [take] = request.takes;
  const isAnswered = first && take && take.to <= first.start + rules.graceMs;
  return !isAnswered && request.attempts.some((attempt) => attempt.coins === undefined);
}
