import type { CoinCategory } from '../../../../gen/aqm/coin/v1/coin';
import { connect } from '../../database/connection';
import { isLockTimeout } from '../../database/sqlstate';
import type { Deadline } from '../../deadline';
import { DomainError, OverloadedError } from '../../errors';
import { UNVERIFIED } from '../../fence/guard';
import { LinkedList } from '../../linked-list';
import { measure } from '../../telemetry/metrics';
import { QueuedCall } from '../../telemetry/tracing';
import { type FetchAnswer, fastAnswers, fullAnswer, isUnverified, recordHandedOut } from './answer';
import { BatchDelayEstimate } from './batch-delay-estimate';
import { type ClaimContext, claimAlone, FULL } from './claim-alone';
import type { ClaimItem } from './claim-item';
import { claimManyFast, mayShareBatch } from './claim-many-fast';
import { claimOne } from './claim-one';
import { claimOneFast } from './claim-one-fast';
import { QueuedFetch } from './queued-fetch';

/** Upper bounds for one batched statement, and for the wait for it. */
export interface BatchBounds {
  readonly maxItems: number;
  readonly maxUsers: number;
  readonly maxCoins: number;
  /** A fetch that would wait longer than this for its statement, in milliseconds, is refused. */
  readonly maxWaitMs: number;
  /**
   * The time after which the next batch starts without waiting for the running statement, in
   * milliseconds.
   */
  readonly stallTimeoutMs: number;
}

/**
 * The maximum number of detached statements. More would mean a slow database rather than one lost
 * response.
 */
export const MAX_DETACHED = 4;

/**
 * Runs one batched claim at a time; fetches that arrive meanwhile form the next batch. An isolated
 * fetch runs immediately. A stalled statement is detached, so that it delays only its own fetches.
 * The queue itself never waits for coins: fetches that the batched statement did not serve
 * (repeats, short stock, fallback, locked coins) are claimed one after the other by the full claim,
 * beside the next batch.
 */
export class BatchQueue {
  readonly #context: ClaimContext;
  readonly #bounds: BatchBounds;
  readonly #queue = new LinkedList<QueuedFetch>();
  readonly #delay: BatchDelayEstimate;
  readonly #detached = new Set<Promise<void>>();
  #isRunning = false;

  constructor(context: ClaimContext, bounds: BatchBounds) {
    this.#context = context;
    this.#bounds = bounds;
    this.#delay = new BatchDelayEstimate(bounds.maxItems, bounds.stallTimeoutMs);
  }

  /** The number of fetches that wait for a statement. */
  get waiting(): number {
    return this.#queue.size;
  }

  /** The estimated wait of a fetch that arrives now for its statement, in milliseconds. */
  get expectedMs(): number {
    return this.#delay.expectedMs(this.#queue.size);
  }

  /**
   * Queues one fetch. Fetches that are added in the same iteration of the event loop share a batch.
   * @throws OverloadedError, DeadlineExceededError, CancelledError, DatabaseUnavailableError,
   *   FencedError
   */
  async add(item: ClaimItem, deadline: Deadline): Promise<FetchAnswer> {
    if (this.expectedMs > this.#bounds.maxWaitMs) throw new OverloadedError();
    const { answer } = new QueuedFetch(this.#queue, item, deadline);
    if (!this.#isRunning) void this.#run();
    return answer;
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#queue.size > 0) {
      this.#delay.begin();
      await this.#unlessStalled(this.#claimBatch());
      this.#delay.end();
    }
    this.#isRunning = false;
  }

  /**
   * Waits for the claim, or detaches it after the stall timeout. Waits on while MAX_DETACHED claims
   * are detached.
   */
  async #unlessStalled(claim: Promise<void>): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const isDone = await Promise.race([
      claim.then(() => true),
      new Promise<false>((resolve) => {
        timer = setTimeout(resolve, this.#bounds.stallTimeoutMs, false).unref();
      }),
    ]);
    clearTimeout(timer);
    if (isDone) return;
    const detached = claim.then(() => {
      this.#detached.delete(detached);
    });
    this.#detached.add(detached);
    while (this.#detached.size > MAX_DETACHED) await Promise.race(this.#detached);
  }

  /**
   * Serves one batch: gets a connection, chooses the fetches, sends their statement, records what
   * it handed out, and answers. Never rejects. The fetches are chosen once there is a connection,
   * so that expired ones are skipped and late ones included.
   * @param chosen the fetches to serve; by default the first ones of the queue
   */
  async #claimBatch(chosen?: readonly QueuedFetch[]): Promise<void> {
    const { db, guard, targets, graceSeconds } = this.#context;
    const queued = this.#queue.size;
    let batch = chosen;
    let unserved: QueuedFetch[] = [];
    try {
      await guard.run(async (token) => {
        const connection = await connect(db);
        try {
          batch = (batch ?? this.#takeBatch()).filter((fetch) => fetch.isStillWaiting());
          const items = batch.map(({ item }) => item);
          const [first] = items;
          if (!first) return;
          measure.batch(items.length);
          const { incarnation } = token;
          const isFull = items.length === 1 && first.categories.length > 1;
          const claim = isFull
            ? claimOne(first, { incarnation, targets, graceSeconds, held: 'skip', acceptShort: false })
            : items.length === 1
              ? claimOneFast(first, { incarnation, targets })
              : claimManyFast(items, { incarnation, targets });
          const rows = await connection.execute(claim.compile(), tracesOf(batch));
          if (isUnverified(rows)) return UNVERIFIED;
          recordHandedOut(guard, token, items, rows);
          const answers = isFull ? [fullAnswer(first, rows, false)] : fastAnswers(items, rows);
          unserved = answer(batch, answers);
        } finally {
          connection.release();
        }
      });
    } catch (error) {
      unserved = await this.#afterFailure(error, batch, queued);
    }
    void this.#claimEachAlone(unserved);
  }

  /**
   * Removes the first fetches from the queue, as many as one statement may serve, and returns them.
   */
  #takeBatch(): QueuedFetch[] {
    const { maxItems, maxUsers, maxCoins } = this.#bounds;
    const taken: QueuedFetch[] = [];
    const users = new Map<string, readonly CoinCategory[]>();
    let coins = 0;
    for (const fetch of this.#queue) {
      const { userId, count, categories } = fetch.item;
      if (taken.length === maxItems || coins + count > maxCoins) break;
      const ofUser = users.get(userId);
      if (ofUser ? !mayShareBatch(ofUser, categories) : users.size === maxUsers) continue;
      fetch.leaveQueue();
      taken.push(fetch);
      if (!ofUser) users.set(userId, categories);
      coins += count;
    }
    this.#delay.took(taken.length, this.#queue.size);
    return taken;
  }

  /**
   * Handles a failed statement. If the database is away or overloaded, all of its fetches fail.
   * Otherwise the batch is split, so that the fetch that caused the failure fails alone.
   * @param batch undefined: there was no connection, so the fetches that waited for it fail
   * @returns the fetches that are to be claimed alone
   */
  async #afterFailure(
    error: unknown,
    batch: readonly QueuedFetch[] | undefined,
    queued: number,
  ): Promise<QueuedFetch[]> {
    if (batch && isLockTimeout(error)) return [...batch];
    if (!batch || error instanceof DomainError) {
      for (const fetch of batch ?? this.#first(queued)) fetch.reject(error);
      return [];
    }
    if (batch.length <= 1) return [...batch];
    const half = batch.length >> 1;
    await this.#claimBatch(batch.slice(0, half));
    await this.#claimBatch(batch.slice(half));
    return [];
  }

  #first(count: number): QueuedFetch[] {
    return [...this.#queue].slice(0, count);
  }

  async #claimEachAlone(fetches: readonly QueuedFetch[]): Promise<void> {
    for (const fetch of fetches) {
      try {
        const { item, deadline, trace } = fetch;
        fetch.resolve(await QueuedCall.resume(trace, () => claimAlone(this.#context, item, deadline, FULL)));
      } catch (error) {
        fetch.reject(error);
      }
    }
  }
}

/** Answers the fetches that the statement served. Returns the others. */
function answer(batch: readonly QueuedFetch[], answers: readonly (FetchAnswer | undefined)[]): QueuedFetch[] {
  return batch.filter((fetch, index) => {
    const found = answers[index];
    if (found) fetch.resolve(found);
    return !found;
  });
}

function tracesOf(batch: readonly QueuedFetch[]): QueuedCall[] {
  return batch.flatMap(({ trace }) => trace ?? []);
}
