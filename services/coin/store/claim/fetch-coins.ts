import { randomUUID } from 'node:crypto';
import type { CoinCategory } from '../../../../gen/aqm/coin/v1/coin';
import { acceptableCategories, LIMITS } from '../../coin';
import type { Deadline } from '../../deadline';
import { OverloadedError, RequestIdReusedError } from '../../errors';
import type { FetchAnswer } from './answer';
import { BatchQueue } from './batch-queue';
import { type ClaimContext, claimAlone } from './claim-alone';
import type { ClaimItem } from './claim-item';

export type { FetchAnswer } from './answer';

/** One fetch as its caller requests it. All ids are UUIDs in lower case. */
export interface CoinFetch {
  readonly targetUserId: string;
  readonly coinCategory: CoinCategory;
  /** 1 to 20. */
  readonly count: number;
  /** Makes the fetch repeatable within the fetch grace. */
  readonly requestId: string | undefined;
  readonly allowLowerCategories: boolean;
  /** True if only the answer to an earlier fetch may be repeated, and nothing is handed out. */
  readonly onlyRemembered?: boolean;
}

/** The limits within which concurrent fetches share statements. */
export interface BatchingRules {
  /** The maximum number of fetches in one statement. 1: every fetch has a statement of its own. */
  readonly batch: number;
  /** The number of queues, each of which runs one statement at a time. */
  readonly queues: number;
  /**
   * The maximum number of users whose coins one statement may hand out. 1 if the tables are
   * distributed by user_id.
   */
  readonly targets: number;
  /** A fetch that would wait longer than this for its statement, in milliseconds, is refused. */
  readonly maxWaitMs: number;
  /**
   * The time after which the next batch starts without waiting for a running statement, in
   * milliseconds.
   */
  readonly stallTimeoutMs: number;
}

/** The maximum number of coins of one statement: as many as one BatchFetchCoins may ask for. */
const MAX_COINS = LIMITS.fetchesPerBatch * LIMITS.coinsPerFetch;
/**
 * The maximum number of waiting fetches, however fast the database is, so that memory stays
 * bounded.
 */
const MAX_WAITING = 20_000;

/**
 * Hands out coins, each to exactly one requester, and remembers the answers for the fetch grace.
 * Concurrent fetches share statements: all fetches of one user's coins go through one queue, so
 * that two statements of this process never compete for the same coins, and fetches are served in
 * the order of arrival.
 */
export class CoinFetches {
  readonly #context: ClaimContext;
  /** Empty if fetches are not batched. */
  readonly #queues: readonly BatchQueue[];

  constructor(context: Omit<ClaimContext, 'targets'>, rules?: BatchingRules) {
    this.#context = { ...context, targets: rules?.targets === 1 ? 'one' : 'several' };
    this.#queues = rules && rules.batch > 1 ? openQueues(this.#context, rules) : [];
  }

  /** The shortest estimated wait of a fetch that arrives now for its statement, in milliseconds. */
  get expectedMs(): number {
    return this.#queues.length === 0 ? 0 : Math.min(...this.#queues.map((queue) => queue.expectedMs));
  }

  /** The number of fetches that wait for a statement. */
  get waiting(): number {
    return this.#queues.reduce((sum, queue) => sum + queue.waiting, 0);
  }

  /**
   * Answers one fetch.
   * @throws DatabaseUnavailableError, DeadlineExceededError, CancelledError, FencedError,
   *   OverloadedError
   */
  fetchOne(requesterId: string, fetch: CoinFetch, deadline: Deadline): Promise<FetchAnswer> {
    return this.#claim(toItem(requesterId, fetch), deadline);
  }

  /**
   * Answers the fetches of one call, in their order; one that fails does so alone.
   * @throws the error of the first fetch if none has an answer
   */
  async fetchAll(requesterId: string, fetches: readonly CoinFetch[], deadline: Deadline): Promise<FetchAnswer[]> {
    const { items, itemOf } = withoutRepeats(requesterId, fetches);
    const answers = new Map<ClaimItem, FetchAnswer>();
    const failures: unknown[] = [];
    const claimInOrder = async (group: readonly ClaimItem[]): Promise<void> => {
      for (const item of group) {
        await this.#claim(item, deadline).then(
          (answer) => answers.set(item, answer),
          (error: unknown) => {
            failures.push(error);
            answers.set(item, { error });
          },
        );
      }
    };
    await Promise.all(inOrderOfFallback(items).map(claimInOrder));
    // Coins that a statement handed out are committed and must be answered, even if other fetches
    // failed.
    if (items.length > 0 && failures.length === items.length) throw failures[0];
    return itemOf.map((item) => {
      const answer = item instanceof Error ? { error: item } : answers.get(item);
      if (!answer) throw new Error('A fetch has no answer.');
      return answer;
    });
  }

  #claim(item: ClaimItem, deadline: Deadline): Promise<FetchAnswer> {
    // The last digits of a UUID of any version are random, or as good.
    const queue = this.#queues[Number.parseInt(item.userId.slice(-6), 16) % this.#queues.length];
    // A fetch that only looks up an earlier answer waits for no batch.
    if (!queue || item.categories.length === 0) return claimAlone(this.#context, item, deadline);
    if (this.waiting >= MAX_WAITING) return Promise.reject(new OverloadedError());
    return queue.add(item, deadline);
  }
}

function openQueues(context: ClaimContext, { queues, batch, targets, ...times }: BatchingRules): BatchQueue[] {
  const bounds = { ...times, maxItems: batch, maxUsers: targets, maxCoins: MAX_COINS };
  return Array.from({ length: queues }, () => new BatchQueue(context, bounds));
}

/**
 * Groups the items of one call. Groups run at the same time, the items of a group one after the
 * other: if an item may fall back to lower categories, it must have done so before the next item of
 * the same user takes from them.
 */
function inOrderOfFallback(items: readonly ClaimItem[]): (readonly ClaimItem[])[] {
  return [...Map.groupBy(items, ({ userId }) => userId).values()].flatMap((ofUser) =>
    ofUser.some(({ categories }) => categories.length > 1) ? [ofUser] : ofUser.map((item) => [item]),
  );
}

/**
 * Merges fetches with the same request id and target into one item. If their parameters differ, the
 * later one is refused.
 */
function withoutRepeats(requesterId: string, fetches: readonly CoinFetch[]) {
  const items: ClaimItem[] = [];
  const first = new Map<string, ClaimItem>();
  const itemOf = fetches.map((fetch) => {
    const { targetUserId, requestId, coinCategory, count, allowLowerCategories } = fetch;
    const key = `${targetUserId} ${requestId}`;
    const known = requestId === undefined ? undefined : first.get(key);
    if (known) {
      const isSame =
        known.coinCategory === coinCategory &&
        known.count === count &&
        known.allowLowerCategories === allowLowerCategories;
      return isSame ? known : new RequestIdReusedError();
    }
    const item = toItem(requesterId, fetch);
    if (requestId !== undefined) first.set(key, item);
    items.push(item);
    return item;
  });
  return { items, itemOf };
}

function toItem(requesterId: string, fetch: CoinFetch): ClaimItem {
  const { targetUserId, requestId, coinCategory, count, allowLowerCategories, onlyRemembered } = fetch;
  return {
    requesterId,
    userId: targetUserId,
    requestId: requestId ?? randomUUID(),
    isRepeatable: requestId !== undefined,
    coinCategory,
    count,
    allowLowerCategories,
    categories: onlyRemembered ? [] : acceptableCategories(coinCategory, allowLowerCategories),
  };
}
