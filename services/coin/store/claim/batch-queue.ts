import type { CoinCategory } from '../../../../gen/aqm/coin/v1/coin';
import { type Connection, connect } from '../../database/connection';
import { isLockTimeout } from '../../database/sqlstate';
import type { Deadline } from '../../deadline';
import { DomainError } from '../../errors';
import { UNVERIFIED } from '../../fence/guard';
import { LinkedList } from '../../linked-list';
import { measure } from '../../telemetry/metrics';
import type { TracedBatch } from '../../telemetry/tracing';
import { type FetchAnswer, fastAnswers, fullAnswer, isUnverified, recordHandedOut } from './answer';
import { BatchDelayEstimate } from './batch-delay-estimate';
import { type ClaimContext, claimOptions } from './claim-alone';
import { type ClaimItem, stockOf, type Targets } from './claim-item';
import { ClaimLoop } from './claim-loop';
import { claimManyFast, isOutOfOrder, mayShareBatch } from './claim-many-fast';
import { claimOne } from './claim-one';
import { claimOneFast } from './claim-one-fast';
import { claimUnserved } from './claim-unserved';
import { findRepeats } from './find-repeats';
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
 * The time after a batch that failed because of a repeat during which repeats are found before each
 * batch, in milliseconds. So a flood of repeats costs a lookup for each batch, and not the batch.
 */
const REPEATS_MS = 1000;

/**
 * Runs one batched claim at a time; fetches that arrive meanwhile form the next batch. An isolated
 * fetch runs immediately. A stalled statement is detached, so that it delays only its own fetches.
 * The queue itself never waits for coins: fetches that the batched statement did not serve
 * (repeats, short stock, locked coins) are claimed by the full claim, beside the next batch.
 */
export class BatchQueue {
  readonly #context: ClaimContext;
  readonly #bounds: BatchBounds;
  readonly #queue = new LinkedList<QueuedFetch>();
  readonly #delay: BatchDelayEstimate;
  readonly #loop: ClaimLoop;
  /** The number of fetches that were ever queued. */
  #added = 0;
  /** Until this time (of performance.now), repeats are found before each batch. */
  #repeatsUntil = 0;

  constructor(context: ClaimContext, bounds: BatchBounds) {
    this.#context = context;
    this.#bounds = bounds;
    const { stallTimeoutMs } = bounds;
    this.#delay = new BatchDelayEstimate(bounds.maxItems, stallTimeoutMs);
    this.#loop = new ClaimLoop({
      isNeeded: () => this.#queue.size > 0,
      claim: () => this.#claimBatch(),
      delay: this.#delay,
      stallTimeoutMs,
    });
  }

  /** The number of fetches that wait for a statement. */
  get waiting(): number {
    return this.#queue.size;
  }

  /** The estimated wait of a fetch that arrives now for its statement, in milliseconds. */
  get expectedMs(): number {
    return this.#delay.expectedMs(this.#queue.size);
  }

  /** True if a fetch that arrives now would wait too long for its statement. */
  get isFull(): boolean {
    return this.expectedMs > this.#bounds.maxWaitMs;
  }

  /**
   * Queues one fetch. Fetches that are added without waiting in between share a batch.
   * @throws DeadlineExceededError, CancelledError, DatabaseUnavailableError, FencedError,
   *   OverloadedError
   */
  async add(item: ClaimItem, deadline: Deadline): Promise<FetchAnswer> {
    const { answer } = new QueuedFetch(this.#queue, ++this.#added, item, deadline);
    this.#loop.start();
    return answer;
  }

  /**
   * Serves one batch: gets a connection, chooses the fetches, sends their statement, records what
   * it handed out, and answers. The next batch need not wait for the record. Never rejects. The
   * fetches are chosen once there is a connection, so that expired ones are skipped and late ones
   * included.
   * @param chosen the fetches to serve; by default the first ones of the queue
   * @param isAgain true if an attempt failed because of repeats in the batch
   */
  async #claimBatch(chosen?: readonly QueuedFetch[], isAgain = false): Promise<void> {
    const { db, guard, targets, graceSeconds } = this.#context;
    const lastWaiting = this.#added;
    const findsRepeats = isAgain || performance.now() < this.#repeatsUntil;
    let batch = chosen;
    let unserved: QueuedFetch[] = [];
    try {
      await guard.runSpending(async (token) => {
        const connection = await connect(db);
        try {
          batch ??= this.#takeBatch();
          const repeats = twiceIn(batch);
          if (findsRepeats && batch.length > 1) await addRepeats(repeats, batch, connection, targets);
          batch = batch.filter((fetch) => fetch.isStillWaiting());
          const served = repeats.size === 0 ? batch : batch.filter((fetch) => !repeats.has(fetch));
          unserved = repeats.size === 0 ? [] : batch.filter((fetch) => repeats.has(fetch));
          const items = served.map(({ item }) => item);
          const [first] = items;
          if (!first) return;
          measure.batch(items.length);
          const options = claimOptions(this.#context, token);
          const isFull = items.length === 1 && first.categories.length > 1;
          const claim = isFull
            ? claimOne(first, { ...options, graceSeconds, held: 'skip', acceptShort: false })
            : items.length === 1
              ? claimOneFast(first, options)
              : claimManyFast(items, options);
          const traces = tracesOf(served);
          const rows = await connection.execute(claim.compile(), traces);
          if (isUnverified(rows)) return UNVERIFIED;
          const recorded = recordHandedOut(this.#context, token, items, rows, traces);
          const answers = isFull ? [fullAnswer(first, rows, false)] : fastAnswers(items, rows);
          // The repeats come last: one of the same batch is answered once the first one is.
          unserved.unshift(...answer(served, answers, recorded));
        } finally {
          connection.release();
        }
      });
    } catch (error) {
      if (batch && isOutOfOrder(error) && !findsRepeats) {
        this.#repeatsUntil = performance.now() + REPEATS_MS;
        return this.#claimBatch(batch, true);
      }
      unserved = await this.#afterFailure(error, batch, lastWaiting);
    }
    void claimUnserved(this.#context, unserved, this.#bounds.stallTimeoutMs);
  }

  /**
   * Removes the first fetches from the queue, as many as one statement may serve, and returns them.
   */
  #takeBatch(): QueuedFetch[] {
    const { maxItems, maxUsers, maxCoins } = this.#bounds;
    const taken: QueuedFetch[] = [];
    const users = new Set<string>();
    const stocks = new Map<string, readonly CoinCategory[]>();
    let coins = 0;
    let otherLists = 0;
    for (const fetch of this.#queue) {
      const { userId, count, categories } = fetch.item;
      if (taken.length === maxItems || coins + count > maxCoins) break;
      if (users.size === maxUsers && !users.has(userId)) continue;
      const stock = stockOf(fetch.item);
      const ofStock = stocks.get(stock);
      if (ofStock && !mayShareBatch(ofStock, categories)) {
        otherLists += 1;
        continue;
      }
      fetch.leaveQueue();
      taken.push(fetch);
      users.add(userId);
      if (!ofStock) stocks.set(stock, categories);
      coins += count;
    }
    // Fetches with other lists say nothing about how many a batch can take.
    this.#delay.took(taken.length, this.#queue.size - otherLists);
    return taken;
  }

  /**
   * Handles a failed statement. If the database is away or overloaded, all of its fetches fail.
   * Otherwise the batch is split, so that the fetch that caused the failure fails alone.
   * @param batch undefined: there was no connection
   * @param lastWaiting the last fetch that waited for the connection: up to it, the queue fails
   * @returns the fetches that are to be claimed alone
   */
  async #afterFailure(
    error: unknown,
    batch: readonly QueuedFetch[] | undefined,
    lastWaiting: number,
  ): Promise<QueuedFetch[]> {
    if (batch && isLockTimeout(error)) return [...batch];
    if (!batch || error instanceof DomainError) {
      const failed = batch ?? [...this.#queue].filter(({ number }) => number <= lastWaiting);
      for (const fetch of failed) fetch.reject(error);
      return [];
    }
    if (batch.length <= 1) return [...batch];
    const half = batch.length >> 1;
    await this.#claimBatch(batch.slice(0, half));
    await this.#claimBatch(batch.slice(half));
    return [];
  }
}

/** Returns the fetches of a batch whose request id another fetch before them has. */
function twiceIn(batch: readonly QueuedFetch[]): Set<QueuedFetch> {
  const twice = new Set<QueuedFetch>();
  const ids = new Set<string>();
  for (const fetch of batch) {
    const { isRepeatable, requestId } = fetch.item;
    if (!isRepeatable) continue;
    if (ids.has(requestId)) twice.add(fetch);
    else ids.add(requestId);
  }
  return twice;
}

/** Adds the fetches whose request ids were used before. */
async function addRepeats(
  repeats: Set<QueuedFetch>,
  batch: readonly QueuedFetch[],
  connection: Connection,
  targets: Targets,
): Promise<void> {
  const query = findRepeats(
    batch.map(({ item }) => item),
    targets,
  );
  for (const { item } of await connection.execute(query.compile(), tracesOf(batch))) {
    const fetch = batch[item - 1];
    if (fetch) repeats.add(fetch);
  }
}

/**
 * Answers the fetches that the statement served, once their coins are recorded. Returns the others.
 */
function answer(
  batch: readonly QueuedFetch[],
  answers: readonly (FetchAnswer | undefined)[],
  recorded: Promise<void>,
): QueuedFetch[] {
  const settle = (end: (fetch: QueuedFetch, answer: FetchAnswer) => void) =>
    batch.forEach((fetch, index) => {
      const found = answers[index];
      if (found) end(fetch, found);
    });
  recorded.then(
    () => settle((fetch, found) => fetch.resolve(found)),
    (error) => settle((fetch) => fetch.reject(error)),
  );
  return batch.filter((_, index) => !answers[index]);
}

function tracesOf(batch: readonly QueuedFetch[]): TracedBatch {
  return { calls: batch.flatMap(({ trace }) => trace ?? []), size: batch.length };
}
