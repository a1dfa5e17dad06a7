import { randomUUID } from 'node:crypto';
import type { CoinCategory } from '../../../../gen/aqm/coin/v1/coin';
import { acceptableCategories, LIMITS } from '../../coin';
import type { Deadline } from '../../deadline';
import { CallTooLargeError, DomainError, mayHaveHappened, OverloadedError, RequestIdReusedError } from '../../errors';
import type { BatchingRules } from './batching-rules';
import type { ClaimContext } from './claim-alone';
import type { DeviceItem } from './claim-devices';
import type { DeviceAnswer } from './device-answer';
import { DeviceQueue, sizeOf } from './device-queue';
import { KnownDevices } from './known-devices';

export type { DeviceAnswer, DeviceStock } from './device-answer';

/** One fetch for the devices of a user, as its caller requests it. All ids are UUIDs in lower case. */
export interface DeviceFetch {
  readonly targetUserId: string;
  /** The devices that are asked for, in ascending order. Empty: all devices of the user. */
  readonly deviceIds: readonly string[];
  readonly coinCategory: CoinCategory;
  /** The number of coins for each device, 0 to 20. 0: the devices are listed. */
  readonly count: number;
  /** Makes the fetch repeatable within the fetch grace. */
  readonly requestId: string | undefined;
  readonly allowLowerCategories: boolean;
  /** True if only the answer to an earlier fetch may be repeated, and nothing is handed out. */
  readonly onlyRemembered?: boolean;
}

/** The maximum number of coins that one statement is expected to hand out. A call hands out at most 1,000. */
const MAX_COINS = 4000;
/** The maximum number of calls that share a statement. */
const MAX_ROUNDS = 64;
/** The maximum number of calls that wait, however fast the database is, so that memory stays bounded. */
const MAX_WAITING = 2000;
/** Without batching: the number of calls of different users that run at the same time. */
const UNBATCHED_QUEUES = 4;

/**
 * Hands out coins for the devices of users, and remembers the answers for the fetch grace. Calls that arrive while a
 * statement runs share the next one. A call with two items of one user, which cannot share a statement, takes one more.
 * On distributed tables each item has a statement of its own, one after the other, because they share the room of their
 * call.
 */
export class DeviceFetches {
  readonly #queues: readonly DeviceQueue[];
  readonly #known = new KnownDevices();
  readonly #isOneUser: boolean;

  constructor(claims: ClaimContext, rules?: BatchingRules) {
    const isBatched = rules !== undefined && rules.batch > 1;
    const context = { ...claims, known: this.#known };
    const bounds = {
      maxRounds: isBatched && claims.targets === 'several' ? MAX_ROUNDS : 1,
      maxCoins: MAX_COINS,
      maxWaitMs: rules?.maxWaitMs ?? Number.POSITIVE_INFINITY,
      stallTimeoutMs: rules?.stallTimeoutMs ?? 1000,
    };
    const queues = isBatched ? rules.queues : UNBATCHED_QUEUES;
    this.#queues = Array.from({ length: queues }, () => new DeviceQueue(context, bounds));
    this.#isOneUser = claims.targets === 'one';
  }

  /**
   * Answers the fetches of one call, in their order; one that fails does so alone.
   * @throws DatabaseUnavailableError, DeadlineExceededError, CancelledError, FencedError or OverloadedError if no fetch has
   *   an answer
   */
  async fetchAll(requesterId: string, fetches: readonly DeviceFetch[], deadline: Deadline): Promise<DeviceAnswer[]> {
    const { items, itemOf } = withoutRepeats(requesterId, fetches);
    const answers = new Map<DeviceItem, DeviceAnswer>();
    // Decided before the first is queued, so that a call does not stand in its own way.
    const isFull = this.#queues.reduce((total, { waiting }) => total + waiting, 0) >= MAX_WAITING;
    const fullQueues = new Set(this.#queues.filter((queue) => isFull || queue.isFull));
    let room: number = LIMITS.coinsPerCall;
    let failure: { readonly error: unknown } | undefined;
    for (const round of this.#roundsOf(items)) {
      const queue = this.#queueOf(round);
      if (!failure && fullQueues.has(queue)) failure = { error: new OverloadedError() };
      let ofRound: readonly DeviceAnswer[] = [];
      if (!failure) {
        try {
          ofRound = await queue.add({ items: round, room }, deadline);
        } catch (error) {
          failure = { error };
        }
      }
      for (const [index, item] of round.entries()) {
        const answer = ofRound[index] ?? failure ?? { error: new Error('A fetch has no answer.') };
        answers.set(item, answer);
        room -= sizeOf(item, answer);
        this.#learn(item, answer);
      }
      // Each item is tried, unless the service cannot claim.
      if (failure && !(failure.error instanceof DomainError)) failure = undefined;
    }
    throwIfAllFailed([...answers.values()]);
    return withinLimit(
      itemOf.map((item) => (item instanceof Error ? { error: item } : { item, answer: answers.get(item) })),
    );
  }

  /** Groups the items by the statement that they go into. */
  #roundsOf(items: readonly DeviceItem[]): (readonly DeviceItem[])[] {
    if (this.#isOneUser) return items.map((item) => [item]);
    const rounds: DeviceItem[][] = [];
    const ofUser = new Map<string, number>();
    for (const item of items) {
      const number = ofUser.get(item.userId) ?? 0;
      ofUser.set(item.userId, number + 1);
      const round = rounds[number];
      if (round) round.push(item);
      else rounds.push([item]);
    }
    return rounds;
  }

  #queueOf([first]: readonly DeviceItem[]): DeviceQueue {
    // The last digits of a UUID of any version are random, or as good.
    const number = Number.parseInt(first?.userId.slice(-6) ?? '0', 16) % this.#queues.length;
    return this.#queues[number] as DeviceQueue;
  }

  #learn({ userId, askedDeviceIds, categories }: DeviceItem, answer: DeviceAnswer): void {
    if ('error' in answer || answer.isRepeat || askedDeviceIds.length > 0 || categories.length === 0) return;
    this.#known.learn(
      userId,
      answer.devices.map(({ deviceId }) => deviceId),
    );
  }
}

/** Throws the error of a call of which no item has an answer. An error with which it may have happened comes first. */
function throwIfAllFailed(answers: readonly DeviceAnswer[]): void {
  const errors = answers.flatMap((answer) => ('error' in answer && !isOfItem(answer.error) ? [answer.error] : []));
  if (errors.length === 0 || errors.length < answers.length) return;
  throw errors.find(mayHaveHappened) ?? errors[0];
}

/** Returns true for an error that says something about one item, so that it never fails the call. */
function isOfItem(error: unknown): boolean {
  return error instanceof RequestIdReusedError || error instanceof CallTooLargeError;
}

/**
 * Returns the answers of a call. Items that are repeats of one another have the same answer, but the response has room for
 * 1,000 coins only: a further repeat beyond that is refused.
 */
function withinLimit(
  answered: readonly (
    | { readonly item: DeviceItem; readonly answer: DeviceAnswer | undefined }
    | { readonly error: Error }
  )[],
): DeviceAnswer[] {
  const seen = new Set<DeviceItem>();
  const coinsOf = (answer: DeviceAnswer | undefined) =>
    answer && 'devices' in answer ? answer.devices.reduce((total, { coins }) => total + coins.length, 0) : 0;
  const distinct = new Map(answered.flatMap((each) => ('item' in each ? [[each.item, each.answer] as const] : [])));
  let coins = [...distinct.values()].reduce((total, answer) => total + coinsOf(answer), 0);
  return answered.map((each) => {
    if ('error' in each) return each;
    const { item, answer } = each;
    if (!answer) throw new Error('A fetch has no answer.');
    if (!seen.has(item)) {
      seen.add(item);
      return answer;
    }
    coins += coinsOf(answer);
    return coins > LIMITS.coinsPerCall ? { error: new CallTooLargeError() } : answer;
  });
}

/** Merges fetches with the same request id and user into one item. If their parameters differ, the later one is refused. */
function withoutRepeats(requesterId: string, fetches: readonly DeviceFetch[]) {
  const items: DeviceItem[] = [];
  const first = new Map<string, { readonly item: DeviceItem; readonly parameters: string }>();
  const itemOf = fetches.map((fetch) => {
    const { targetUserId, requestId, coinCategory, count, allowLowerCategories, deviceIds } = fetch;
    const key = `${targetUserId} ${requestId}`;
    const parameters = [coinCategory, count, allowLowerCategories, ...deviceIds].join();
    const known = requestId === undefined ? undefined : first.get(key);
    if (known) return known.parameters === parameters ? known.item : new RequestIdReusedError();
    const item = toItem(requesterId, fetch);
    if (requestId !== undefined) first.set(key, { item, parameters });
    items.push(item);
    return item;
  });
  return { items, itemOf };
}

function toItem(requesterId: string, fetch: DeviceFetch): DeviceItem {
  const { targetUserId, requestId, coinCategory, count, allowLowerCategories, deviceIds, onlyRemembered } = fetch;
  return {
    requesterId,
    userId: targetUserId,
    askedDeviceIds: deviceIds,
    requestId: requestId ?? randomUUID(),
    isRepeatable: requestId !== undefined,
    coinCategory,
    count,
    allowLowerCategories,
    categories: onlyRemembered ? [] : acceptableCategories(coinCategory, allowLowerCategories),
  };
}
