import { randomUUID } from 'node:crypto';
import type { CoinCategory } from '../../../../gen/aqm/coin/v1/coin';
import { acceptableCategories } from '../../coin';
import type { Database } from '../../database/pool';
import type { Deadline } from '../../deadline';
import { RequestIdReusedError } from '../../errors';
import type { Guard } from '../../fence/guard';
import { type Asking, answerAll, answerOf, type Failures, type FetchAnswer, type Pending } from './answer';
import type { ClaimBatcher } from './batcher';
import { splitBatch } from './split-batch';

export type { FetchAnswer } from './answer';

/** One fetch: how many coins of whom. Ids in lower case. */
export interface CoinFetch {
  readonly targetUserId: string;
  readonly coinCategory: CoinCategory;
  readonly count: number;
  /** Makes the fetch repeatable within the grace. */
  readonly requestId: string | undefined;
  readonly allowLowerCategories: boolean;
  /** Answer only if this repeats an earlier fetch; hand out nothing. */
  readonly onlyRemembered?: boolean;
}

/** Who asks, and for how long. */
export interface Asker {
  readonly requesterId: string;
  readonly deadline: Deadline;
}

/** How fetches are answered. */
export interface Claims {
  readonly db: Database;
  readonly gate: Guard;
  /** How long an answer is remembered for repeats, in seconds. */
  readonly graceSeconds: number;
  /** Of how many users one statement may hand out; 1: the tables are distributed by user_id. */
  readonly maxTargets: number;
  /** Calls that wait together share statements; undefined: each has its own. */
  readonly batching: ClaimBatcher | undefined;
}

/**
 * Hands coins out, each to exactly one requester, and remembers the answers for `graceSeconds`. One statement
 * whatever the number of items and coins, shared with other calls if others wait at the same time; more only for items that
 * are short of coins, need their fallback, or repeat an earlier one, and where coins are contended.
 * @throws DatabaseUnavailableError, DeadlineExceededError, CancelledError, FencedError, OverloadedError when no item
 *   got an answer
 */
export async function fetchCoins(claims: Claims, fetches: readonly CoinFetch[], asker: Asker): Promise<FetchAnswer[]> {
  const { items, itemOf } = withoutRepeats(fetches, asker.requesterId);
  const { batching } = claims;
  const isGathered = batching ? gatherable(items) : () => false;
  const failures: Failures = new Map();
  await Promise.all([
    batching?.answer(items.filter(isGathered), asker.deadline, failures),
    answerInWaves(
      claims,
      items.filter((item) => !isGathered(item)),
      asker.deadline,
      failures,
    ),
  ]);
  // What a statement took is committed and must be answered, whatever became of the others.
  if (items.length > 0 && items.every((item) => item.answer === undefined)) throw failures.values().next().value;
  return itemOf.map((item) =>
    item instanceof Error ? { error: item } : (item.answer ?? { error: failures.get(item) }),
  );
}

/** The same for one, which is what most calls are: without what several need. Rejects for the same reasons. */
export function fetchOne(claims: Claims, fetch: CoinFetch, { requesterId, deadline }: Asker): Promise<FetchAnswer> {
  const item = pendingOf(fetch, requesterId);
  // What only looks up waits for nobody.
  if (claims.batching && item.categories.length > 0) return claims.batching.answerOne(item, deadline);
  return fetchAlone(claims, item, deadline);
}

async function fetchAlone(claims: Claims, item: Pending, deadline: Deadline): Promise<FetchAnswer> {
  await answerAll(claims.db, claims.gate, [item], { ...askingOf(claims), deadline });
  return answerOf(item);
}

function askingOf({ graceSeconds, maxTargets }: Claims): Omit<Asking, 'deadline'> {
  return { graceSeconds, targets: maxTargets === 1 ? 'one' : 'several' };
}

/**
 * What may share a statement with other calls. Not what only looks up: it waits for nobody. And not the items of a call whose
 * fallbacks meet at one user's coins: the first of them must have its fallback before the next one is asked for.
 */
function gatherable(items: readonly Pending[]): (item: Pending) => boolean {
  const usersOf = items.length === 1 ? [] : splitBatch(items).map((wave) => new Set(wave.map(({ userId }) => userId)));
  return ({ userId, categories }) => categories.length > 0 && usersOf.filter((users) => users.has(userId)).length <= 1;
}

async function answerInWaves(
  claims: Claims,
  items: readonly Pending[],
  deadline: Deadline,
  failures: Failures,
): Promise<void> {
  for (const wave of splitBatch(items, claims.maxTargets)) {
    try {
      await answerAll(claims.db, claims.gate, wave, { ...askingOf(claims), deadline });
    } catch (error) {
      const isFirst = items.every((item) => item.answer === undefined);
      for (const item of isFirst ? items : wave) failures.set(item, error);
      if (isFirst) return;
    }
  }
}

/** Two fetches with the same id and target are one item; with other parameters the later one is refused. */
function withoutRepeats(fetches: readonly CoinFetch[], requesterId: string) {
  const items: Pending[] = [];
  const first = new Map<string, Pending>();
  const itemOf = fetches.map((fetch) => {
    const { targetUserId, requestId, coinCategory, count, allowLowerCategories } = fetch;
    const key = `${targetUserId} ${requestId}`;
    const known = requestId === undefined ? undefined : first.get(key);
    if (known) {
      const same =
        known.coinCategory === coinCategory &&
        known.count === count &&
        known.allowLowerCategories === allowLowerCategories;
      return same ? known : new RequestIdReusedError();
    }
    const item = pendingOf(fetch, requesterId);
    if (requestId !== undefined) first.set(key, item);
    items.push(item);
    return item;
  });
  return { items, itemOf };
}

function pendingOf(fetch: CoinFetch, requesterId: string): Pending {
  const { targetUserId, requestId, coinCategory, count, allowLowerCategories, onlyRemembered } = fetch;
  return {
    requesterId,
    userId: targetUserId,
    requestId: requestId ?? randomUUID(),
    coinCategory,
    count,
    allowLowerCategories,
    categories: onlyRemembered ? [] : acceptableCategories(coinCategory, allowLowerCategories),
    repeatable: requestId !== undefined,
    answer: undefined,
  };
}
