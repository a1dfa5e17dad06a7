import { connect } from '../../database/connection';
import { isLockTimeout } from '../../database/sqlstate';
import type { Deadline } from '../../deadline';
import { DomainError } from '../../errors';
import { UNVERIFIED } from '../../fence/guard';
import { LinkedList } from '../../linked-list';
import { measure } from '../../telemetry/metrics';
import { QueuedCall } from '../../telemetry/tracing';
import { BatchDelayEstimate } from './batch-delay-estimate';
import { claimDevices, type DeviceClaim, type DeviceItem } from './claim-devices';
import { claimDevicesAlone, type DeviceContext, deviceOptions, SKIPPING } from './claim-devices-alone';
import { ClaimLoop } from './claim-loop';
import { forEachConcurrently } from './concurrency';
import { type DeviceAnswer, deviceAnswers, isUnverifiedRow, recordDeviceCoins } from './device-answer';
import { QueuedFetch } from './queued-fetch';

/** The items of a call that go into one statement: each of another user. */
export interface DeviceRound {
  readonly items: readonly DeviceItem[];
  /** The number of coins that the call may still be answered with. */
  readonly room: number;
}

/** Upper bounds for one statement, and for the wait for it. */
export interface DeviceBounds {
  /** 1 if every call has statements of its own. */
  readonly maxRounds: number;
  /** The number of coins that a statement is expected to hand out, by the devices of earlier answers. */
  readonly maxCoins: number;
  /** A call that would wait longer than this for its statement, in milliseconds, is refused. */
  readonly maxWaitMs: number;
  /** The time after which the next statement starts without waiting for the running one, in milliseconds. */
  readonly stallTimeoutMs: number;
}

/** The answer of an item, or the reason why a statement did not serve it (claim-devices.ts). */
type Verdict = DeviceAnswer | 'contended' | 'recorded';
type QueuedRound = QueuedFetch<DeviceRound, DeviceAnswer[]>;

/** After a failed statement: the maximum number of rounds whose items are claimed at the same time. */
const MAX_ROUNDS_AT_ONCE = 8;
/** The number of devices of a user who is not known yet, for the size of a statement. */
const TYPICAL_DEVICES = 3;

/**
 * Runs one claim for devices at a time; calls that arrive meanwhile share the next one, as fetches do in a BatchQueue. A
 * stalled statement is detached. Items that the statement did not serve (locked coins, an id used before) are claimed
 * alone, beside the next statement.
 */
export class DeviceQueue {
  readonly #context: DeviceContext;
  readonly #bounds: DeviceBounds;
  readonly #queue = new LinkedList<QueuedRound>();
  readonly #delay: BatchDelayEstimate;
  readonly #loop: ClaimLoop;
  /** The number of rounds that were ever queued. */
  #added = 0;

  constructor(context: DeviceContext, bounds: DeviceBounds) {
    const { stallTimeoutMs } = bounds;
    this.#context = context;
    this.#bounds = bounds;
    this.#delay = new BatchDelayEstimate(1, stallTimeoutMs);
    this.#loop = new ClaimLoop({
      isNeeded: () => this.#queue.size > 0,
      claim: () => this.#claimBatch(),
      delay: this.#delay,
      stallTimeoutMs,
    });
  }

  /** The number of rounds that wait for a statement. */
  get waiting(): number {
    return this.#queue.size;
  }

  /** True if a round that arrives now would wait too long for its statement. */
  get isFull(): boolean {
    return this.#delay.expectedMs(this.#queue.size) > this.#bounds.maxWaitMs;
  }

  /**
   * Queues the items of one round, and returns an answer for each.
   * @throws DeadlineExceededError, CancelledError, DatabaseUnavailableError, FencedError, OverloadedError
   */
  async add(round: DeviceRound, deadline: Deadline): Promise<DeviceAnswer[]> {
    const { answer }: QueuedRound = new QueuedFetch(this.#queue, ++this.#added, round, deadline);
    this.#loop.start();
    return answer;
  }

  /** Serves one batch, in the steps of BatchQueue. Never rejects. */
  async #claimBatch(): Promise<void> {
    const lastWaiting = this.#added;
    let batch: readonly QueuedRound[] | undefined;
    try {
      await this.#context.guard.runSpending(async (token) => {
        const connection = await connect(this.#context.db);
        try {
          batch = (batch ?? this.#takeBatch()).filter((queued) => queued.isStillWaiting());
          const claims = claimsOf(batch);
          if (claims.length === 0) return;
          measure.batch(claims.length);
          const traces = { calls: batch.flatMap(({ trace }) => trace ?? []), size: claims.length };
          const claim = claimDevices(claims, deviceOptions(this.#context, token, SKIPPING));
          const rows = await connection.execute(claim.compile(), traces);
          if (isUnverifiedRow(rows)) return UNVERIFIED;
          const recorded = recordDeviceCoins(this.#context, token, claims, rows, traces);
          this.#answer(batch, deviceAnswers(claims, rows, false), recorded);
        } finally {
          connection.release();
        }
      });
    } catch (error) {
      this.#afterFailure(error, batch, lastWaiting);
    }
  }

  /** Removes the first rounds from the queue, as many as one statement may serve, and returns them. */
  #takeBatch(): QueuedRound[] {
    const taken: QueuedRound[] = [];
    const users = new Set<string>();
    let coins = 0;
    let sameUser = 0;
    for (const queued of this.#queue) {
      const { items } = queued.item;
      const expected = this.#expectedCoins(queued.item);
      if (taken.length === this.#bounds.maxRounds || (taken.length > 0 && coins + expected > this.#bounds.maxCoins))
        break;
      if (items.some(({ userId }) => users.has(userId))) {
        sameUser += 1;
        continue;
      }
      queued.leaveQueue();
      taken.push(queued);
      for (const { userId } of items) users.add(userId);
      coins += expected;
    }
    // Rounds of the same users say nothing about how many a statement can take.
    this.#delay.took(taken.length, this.#queue.size - sameUser);
    return taken;
  }

  #expectedCoins({ items, room }: DeviceRound): number {
    const coins = items.reduce((sum, { userId, askedDeviceIds, count }) => {
      const devices = askedDeviceIds.length || this.#context.known.of(userId).length || TYPICAL_DEVICES;
      return sum + count * devices;
    }, 0);
    return Math.min(room, coins);
  }

  /** Answers each round once its coins are recorded, and its other items are claimed. */
  #answer(batch: readonly QueuedRound[], answers: readonly Verdict[], recorded: Promise<void>): void {
    let at = 0;
    for (const queued of batch) {
      const ofRound = answers.slice(at, at + queued.item.items.length);
      at += ofRound.length;
      const answered = recorded.then(
        () => ofRound,
        (error: unknown) => ofRound.map((answer) => (typeof answer === 'object' ? { error } : answer)),
      );
      void answered.then((verdicts) => this.#claimUnserved(queued, verdicts));
    }
  }

  /**
   * Claims the items of a round that have no answer yet, one after the other, and answers the round. An item that fails
   * does so alone: the others may have been handed coins. Never rejects.
   */
  async #claimUnserved(queued: QueuedRound, verdicts: readonly Verdict[]): Promise<void> {
    const { items, room } = queued.item;
    const answers: DeviceAnswer[] = verdicts.map((verdict) =>
      typeof verdict === 'object' ? verdict : { error: undefined },
    );
    let left = room - sum(answers.map((answer, index) => sizeOf(items[index], answer)));
    for (const [index, item] of items.entries()) {
      if (typeof verdicts[index] === 'object') continue;
      const claim = { item, call: 1, room: left };
      const answer: DeviceAnswer = await QueuedCall.resume(queued.trace, () =>
        claimDevicesAlone(this.#context, claim, queued.deadline),
      ).catch((error: unknown) => ({ error }));
      answers[index] = answer;
      left -= sizeOf(item, answer);
    }
    queued.resolve(answers);
  }

  /**
   * Handles a failed statement. If the database is away or overloaded, all of its rounds fail. Otherwise their items are
   * claimed alone, so that the one that caused the failure fails alone.
   * @param batch undefined: there was no connection
   * @param lastWaiting the last round that waited for the connection: up to it, the queue fails
   */
  #afterFailure(error: unknown, batch: readonly QueuedRound[] | undefined, lastWaiting: number): void {
    if (!batch || (error instanceof DomainError && !isLockTimeout(error))) {
      const failed = batch ?? [...this.#queue].filter(({ number }) => number <= lastWaiting);
      for (const queued of failed) queued.reject(error);
      return;
    }
    void forEachConcurrently(batch, MAX_ROUNDS_AT_ONCE, (queued) =>
      this.#claimUnserved(
        queued,
        queued.item.items.map(() => 'contended'),
      ),
    );
  }
}

function claimsOf(batch: readonly QueuedRound[]): DeviceClaim[] {
  return batch.flatMap(({ item: { items, room } }, call) => items.map((item) => ({ item, call, room })));
}

/** Returns how much of its call's room an answer takes: the coins that its devices could get, or those of a repeat. */
export function sizeOf(item: DeviceItem | undefined, answer: DeviceAnswer): number {
  if (!item || 'error' in answer) return 0;
  return answer.isRepeat ? sum(answer.devices.map(({ coins }) => coins.length)) : answer.devices.length * item.count;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
