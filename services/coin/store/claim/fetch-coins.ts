import { randomUUID } from 'node:crypto';
import type { CoinCategory } from '../../../../gen/aqm/coin/v1/coin';
import { acceptableCategories, LIMITS } from '../../coin';
import type { Deadline } from '../../deadline';
import { DomainError, mayHaveHappened, OverloadedError, RequestIdReusedError } from '../../errors';
import type { FetchAnswer } from './answer';
import { BatchQueue } from './batch-queue';
import type { BatchingRules } from './batching-rules';
import { type ClaimContext, claimAlone } from './claim-alone';
import { type ClaimItem, stockOf } from './claim-item';
import { mayShareBatch } from './claim-many-fast';
import { forEachConcurrently } from './concurrency';
import { DeviceFetches } from './fetch-device-coins';
import { LockWaits } from './lock-waits';
import { QueueStarts } from './queue-starts';

export type { FetchAnswer } from './answer';
export type { BatchingRules } from './batching-rules';

/** One fetch as its caller requests it. All ids are UUIDs in lower case. */
export interface CoinFetch {
  readonly targetUserId: string;
  /** The device of that user; UNNAMED_DEVICE for the unnamed one. */
  readonly deviceId: string;
  readonly coinCategory: CoinCategory;
  /** 1 to 20. */
  readonly count: number;
  /** Makes the fetch repeatable within the fetch grace. */
  readonly requestId: string | undefined;
  readonly allowLowerCategories: boolean;
  /** True if only the answer to an earlier fetch may be repeated, and nothing is handed out. */
  readonly onlyRemembered?: boolean;
}

/** The maximum number of coins of one statement: as many as one BatchFetchCoins may ask for. */
const MAX_COINS = LIMITS.fetchesPerBatch * LIMITS.coinsPerFetch;
/**
 * The maximum number of waiting fetches, however fast the database is, so that memory stays
 * bounded.
 */
const MAX_WAITING = 20_000;
/** Without batching: the maximum number of devices whose coins one call claims at the same time. */
const MAX_UNBATCHED = 4;

/**
 * Hands out coins, each to exactly one requester, and remembers the answers for the fetch grace.
 * Concurrent fetches share statements: all fetches of one user's coins go through one queue, so
 * that two batches of this process rarely compete for the same coins. Fetches are served in the
 * order of arrival, unless they cannot share a batch.
 */
export class CoinFetches {
  readonly #context: ClaimContext;
  /** Empty if fetches are not batched. */
  readonly #queues: readonly BatchQueue[];
  /** The fetches for several devices, which have queues of their own. */
  readonly devices: DeviceFetches;

  constructor(context: Pick<ClaimContext, 'db' | 'guard' | 'graceSeconds'>, rules?: BatchingRules) {
    const isDistributed = rules?.targets === 1;
    this.#context = {
      ...context,
      targets: isDistributed ? 'one' : 'several',
      lockWaits: new LockWaits(),
      starts: isDistributed ? undefined : new QueueStarts(context.db),
    };
    this.#queues = rules && rules.batch > 1 ? openQueues(this.#context, rules) : [];
    this.devices = new DeviceFetches(this.#context, rules);
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
    const item = toItem(requesterId, fetch);
    const queue = this.#queueOf(item);
    if (!queue) return claimAlone(this.#context, item, deadline);
    if (queue.isFull || this.waiting >= MAX_WAITING) return Promise.reject(new OverloadedError());
    return queue.add(item, deadline);
  }

  /**
   * Answers the fetches of one call, in their order; one that fails does so alone.
   * @throws an error of a fetch if none has an answer
   */
  async fetchAll(requesterId: string, fetches: readonly CoinFetch[], deadline: Deadline): Promise<FetchAnswer[]> {
    const { items, itemOf } = withoutRepeats(requesterId, fetches);
    const answers = new Map<ClaimItem, FetchAnswer>();
    // Decided before the first is queued, so that a call does not stand in its own way.
    const isFull = this.waiting + items.length > MAX_WAITING;
    const fullQueues = new Set(this.#queues.filter((queue) => isFull || queue.isFull));
    const claim = (item: ClaimItem): Promise<FetchAnswer> => {
      const queue = this.#queueOf(item);
      if (!queue) return claimAlone(this.#context, item, deadline);
      return fullQueues.has(queue) ? Promise.reject(new OverloadedError()) : queue.add(item, deadline);
    };
    const isBatched = this.#queues.length > 0;
    const groups = isBatched ? groupsInOrder(items) : [...Map.groupBy(items, stockOf).values()];
    await forEachConcurrently(groups, isBatched ? groups.length : MAX_UNBATCHED, (group) =>
      claimInOrder(group, claim, answers),
    );
    throwIfAllFailed(items, answers);
    return itemOf.map((item) => {
      const answer = item instanceof Error ? { error: item } : answers.get(item);
      if (!answer) throw new Error('A fetch has no answer.');
      return answer;
    });
  }

  /** Returns undefined for a fetch that waits for no batch, because it only looks up an earlier answer. */
  #queueOf({ userId, categories }: ClaimItem): BatchQueue | undefined {
    if (categories.length === 0) return undefined;
    // The last digits of a UUID of any version are random, or as good.
    return this.#queues[Number.parseInt(userId.slice(-6), 16) % this.#queues.length];
  }
}

/** Claims one item after the other. If the service cannot claim, the rest of the group fails as well. */
async function claimInOrder(
  group: readonly ClaimItem[],
  claim: (item: ClaimItem) => Promise<FetchAnswer>,
  answers: Map<ClaimItem, FetchAnswer>,
): Promise<void> {
  for (const [index, item] of group.entries()) {
    try {
      answers.set(item, await claim(item));
    } catch (error) {
      const failed = error instanceof DomainError ? group.slice(index) : [item];
      for (const each of failed) answers.set(each, { error });
      if (error instanceof DomainError) return;
    }
  }
}

/**
 * Throws the error of a call of which no fetch has an answer. Otherwise coins may be committed,
 * and must be answered. An error with which the fetch may have happened comes first.
 */
function throwIfAllFailed(items: readonly ClaimItem[], answers: ReadonlyMap<ClaimItem, FetchAnswer>): void {
  const errors = items.flatMap((item) => {
    const answer = answers.get(item);
    return answer && 'error' in answer && !(answer.error instanceof RequestIdReusedError) ? [answer.error] : [];
  });
  if (items.length === 0 || errors.length < items.length) return;
  throw errors.find(mayHaveHappened) ?? errors[0];
}

function openQueues(context: ClaimContext, { queues, batch, targets, ...times }: BatchingRules): BatchQueue[] {
  const bounds = { ...times, maxItems: batch, maxUsers: targets, maxCoins: MAX_COINS };
  return Array.from({ length: queues }, () => new BatchQueue(context, bounds));
}

/**
 * Groups the items of one call. Groups run at the same time, the items of a group one after the
 * other. The items of one device are one group if they cannot share a batch: an item that may fall
 * back must have done so before the next one takes coins of that category.
 */
function groupsInOrder(items: readonly ClaimItem[]): (readonly ClaimItem[])[] {
  return [...Map.groupBy(items, stockOf).values()].flatMap((ofDevice) => {
    const lists = ofDevice.map(({ categories }) => categories).filter(({ length }) => length > 0);
    const canShare = lists.every((list) => mayShareBatch(lists[0] ?? [], list));
    return canShare ? ofDevice.map((item) => [item]) : [ofDevice];
  });
}

/**
 * Merges fetches with the same request id and target into one item. If their parameters differ, the
 * later one is refused.
 */
function withoutRepeats(requesterId: string, fetches: readonly CoinFetch[]) {
  const items: ClaimItem[] = [];
  const first = new Map<string, ClaimItem>();
  const itemOf = fetches.map((fetch) => {
    const { targetUserId, deviceId, requestId, coinCategory, count, allowLowerCategories } = fetch;
    const key = `${targetUserId} ${requestId}`;
    const known = requestId === undefined ? undefined : first.get(key);
    if (known) {
      const isSame =
        known.deviceId === deviceId &&
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
  const { targetUserId, deviceId, requestId, coinCategory, count, allowLowerCategories, onlyRemembered } = fetch;
  return {
    requesterId,
    userId: targetUserId,
    deviceId,
    requestId: requestId ?? randomUUID(),
    isRepeatable: requestId !== undefined,
    coinCategory,
    count,
    allowLowerCategories,
    categories: onlyRemembered ? [] : acceptableCategories(coinCategory, allowLowerCategories),
  };
}
