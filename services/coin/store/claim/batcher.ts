import { LIMITS } from '../../coin';
import type { Database } from '../../database/pool';
import type { Deadline } from '../../deadline';
import { OverloadedError } from '../../errors';
import type { Guard } from '../../fence/guard';
import type { Failures, FetchAnswer, Pending } from './answer';
import { BatchQueue } from './batch-queue';

/** How calls that wait together share statements. */
export interface BatchingRules {
  /** Fetches of one statement, at most. */
  readonly batch: number;
  /** Statements at the same time, at most. */
  readonly queues: number;
  /** Users whose coins one statement may hand out, at most; 1 where the tables are distributed by user_id. */
  readonly targets: number;
  /** A fetch that would wait longer for its statement is not taken; in milliseconds. */
  readonly maxWaitMs: number;
  /** A statement that takes longer does not hold up the ones after it; in milliseconds. */
  readonly stallTimeoutMs: number;
}

/** Coins that one statement may be asked for: as many as one BatchFetchCoins may ask for. */
const MAX_COINS = LIMITS.fetchesPerBatch * LIMITS.coinsPerFetch;
/** Fetches that may wait at the same time, however fast the database is: so that memory stays bounded. */
const MAX_WAITING = 20_000;

/**
 * Gathered claims: while a claim is under way, arriving fetches wait, and the next one takes them all. A fetch that meets
 * no other waits for nobody. All fetches of one target go by one lane: two statements of one process never meet over its
 * coins, and who came first is served first.
 */
export class ClaimBatcher {
  readonly #queues: readonly BatchQueue[];
  readonly #maxWaitMs: number;

  constructor(db: Database, gate: Guard, rules: BatchingRules & { readonly graceSeconds: number }) {
    const most = { items: rules.batch, targets: rules.targets, coins: MAX_COINS };
    this.#maxWaitMs = rules.maxWaitMs;
    this.#queues = Array.from({ length: rules.queues }, () => new BatchQueue(db, gate, { ...rules, most }));
  }

  /** How long one more fetch would wait for its statement at least, in milliseconds; 0 when it would not wait. */
  get expectedMs(): number {
    return Math.min(...this.#queues.map((lane) => lane.expectedMs));
  }

  get waiting(): number {
    return this.#queues.reduce((sum, lane) => sum + lane.waiting, 0);
  }

  /** Gives the items their answers, or says in `failures` why not; never fails. */
  async answer(items: readonly Pending[], deadline: Deadline, failures: Failures): Promise<void> {
    const isRoom = this.#isRoomFor(items.length);
    const answers = items.map(async (item) => {
      try {
        await this.#add(item, deadline, isRoom);
      } catch (error) {
        failures.set(item, error);
      }
    });
    // Not before all of them wait: else the first would go alone.
    for (const lane of this.#queues) lane.go();
    await Promise.all(answers);
  }

  /** Gives one item its answer. Rejects with why it has none. */
  answerOne(item: Pending, deadline: Deadline): Promise<FetchAnswer> {
    const answer = this.#add(item, deadline, this.#isRoomFor(1));
    this.#laneOf(item.userId).go();
    return answer;
  }

  #isRoomFor(items: number): boolean {
    return this.waiting + items <= MAX_WAITING;
  }

  #add(item: Pending, deadline: Deadline, isRoom: boolean): Promise<FetchAnswer> {
    const lane = this.#laneOf(item.userId);
    if (!isRoom || lane.expectedMs > this.#maxWaitMs) return Promise.reject(new OverloadedError());
    return lane.add(item, deadline);
  }

  #laneOf(userId: string): BatchQueue {
    // The last digits of a UUID of any version are random, or as good.
    const lane = this.#queues[Number.parseInt(userId.slice(-6), 16) % this.#queues.length];
    if (!lane) throw new RangeError('there are no queues');
    return lane;
  }
}
