import { randomUUID } from 'node:crypto';
import { COIN_CATEGORIES } from '../../../gen/aqm/coin/v1/coin_categories';
import { LIMITS } from '../../../services/coin/coin';
import type { Caller } from '../caller';
import type { FetchCall, FetchItem, Millis } from '../history';
import type { Random } from '../random';
import { retryWindow } from '../workload';
import type { Account } from './account';
import { isTransient, Loop, type RunContext } from './loop';

/**
 * The categories to choose from when fetching. Those with small keys occur more often, so that more calls fit into a
 * run.
 */
const ASKED = COIN_CATEGORIES.flatMap((spec, index) => Array.from({ length: index + 1 }, () => spec.category));

/** The owners from whom a requester fetches. */
export interface Targets {
  readonly hot: readonly Account[];
  readonly busy: readonly Account[];
  /** The owner from whom only this requester fetches. */
  readonly own: Account;
}

/**
 * Fetches coins. It repeats failed requests with the same request_ids until they are answered, and sometimes answered
 * ones.
 */
export class Requester extends Loop {
  readonly #targets: Targets;
  #answered: { items: FetchItem[]; begin: Millis }[] = [];

  constructor(context: RunContext, caller: Caller, random: Random, targets: Targets) {
    super(context, caller, random);
    this.#targets = targets;
  }

  protected async step(): Promise<void> {
    const { random } = this;
    const { workload } = this.context;
    if (random.chance(workload.repeatShare) && (await this.#repeatAnswered())) return;
    if (random.chance(workload.besideShare) && (await this.#repeatBeside())) return;
    const size = random.chance(workload.batchShare) ? random.between(2, workload.maxBatch) : 1;
    const asBatch = size > 1 || random.chance(0.05);
    const isFanOut = random.chance(workload.fanOutShare);
    const items = Array.from({ length: size }, () => (isFanOut ? this.#newFanOut() : this.#newItem()));
    const begin = this.context.recorder.now();
    const first = random.chance(workload.doubleShare)
      ? await this.#twice(items, asBatch)
      : await this.caller.fetch(this.anyServer(), items, this.deadlineMs, asBatch);
    await this.#untilAnswered(first, begin, asBatch);
    this.#answered.push({ items: items.filter((item) => item.requestId !== ''), begin });
    if (this.#answered.length > 50) this.#answered.shift();
  }

  #newItem(): FetchItem {
    const { random } = this;
    const { workload } = this.context;
    const account = this.#target();
    return {
      targetUserId: account.userId,
      deviceId: random.chance(workload.namedShare) ? this.#namedDevice(account) : '',
      category: random.pick(ASKED) ?? COIN_CATEGORIES[0].category,
      count: random.chance(0.02) ? random.between(1, LIMITS.coinsPerFetch) : random.between(1, workload.maxCount),
      allowLower: random.chance(workload.fallbackShare),
      requestId: random.chance(workload.unnamedShare) ? '' : randomUUID(),
    };
  }

  /** Returns an item for some or all devices of a user. Some of those that it names do not exist any more. */
  #newFanOut(): FetchItem {
    const { random } = this;
    const account = this.#target();
    const named = account.devices.map(({ id }) => id).filter(() => random.chance(0.6));
    const asked = random.chance(0.7) ? [] : [...named, ...(random.chance(0.2) ? [this.#namedDevice(account)] : [])];
    return {
      ...this.#newItem(),
      targetUserId: account.userId,
      deviceId: '',
      askedDeviceIds: [...new Set(asked)],
      count: random.between(0, this.context.workload.maxCount),
    };
  }

  /** Returns a named device of the user, or now and then one that was removed. */
  #namedDevice(account: Account): string {
    const { random } = this;
    const removed = random.chance(0.1) ? account.pickRemoved(random) : undefined;
    return removed ?? random.pick(account.devices.slice(1))?.id ?? '';
  }

  #target(): Account {
    const { hot, busy, own } = this.#targets;
    const dice = this.random.next();
    if (dice < this.context.workload.hotShare) return this.random.pick(hot) ?? own;
    return dice < 0.85 ? (this.random.pick(busy) ?? own) : own;
  }

  /** Sends the same requests twice at the same moment, to two services if there are several. */
  async #twice(items: readonly FetchItem[], asBatch: boolean): Promise<FetchCall> {
    const named = items.filter((item) => item.requestId !== '');
    if (named.length === 0) return this.caller.fetch(this.anyServer(), items, this.deadlineMs, asBatch);
    const [first] = await Promise.all([
      this.caller.fetch(this.anyServer(), items, this.deadlineMs, asBatch),
      this.caller.fetch(this.anyServer(), named, this.deadlineMs, named.length > 1 || asBatch),
    ]);
    return first;
  }

  async #untilAnswered(first: FetchCall, begin: Millis, asBatch: boolean): Promise<void> {
    const { recorder, timing } = this.context;
    const failed = (call: FetchCall) =>
      call.items.filter(
        (item) => !item.coins && item.requestId !== '' && isTransient(item.failure) && isTransient(call.failure),
      );
    let open = failed(first);
    while (open.length > 0 && recorder.now() - begin < retryWindow(timing)) {
      await this.pause(100);
      const timeoutMs = Math.min(this.deadlineMs, timing.graceMs - (recorder.now() - begin));
      open = failed(await this.caller.fetch(this.anyServer(), open, timeoutMs, asBatch || open.length > 1));
    }
  }

  async #repeatAnswered(): Promise<boolean> {
    const items = this.#pickAnswered();
    if (items.length === 0) return false;
    await this.caller.fetch(this.anyServer(), items, this.deadlineMs);
    return true;
  }

  /** Sends an answered request again together with new ones for the same coins, and then one more. */
  async #repeatBeside(): Promise<boolean> {
    const [known] = this.#pickAnswered();
    if (!known) return false;
    const server = this.anyServer();
    const { targetUserId, deviceId, category } = known;
    const fetchOne = async (): Promise<void> => {
      const item = { targetUserId, deviceId, category, count: 1, allowLower: false, requestId: randomUUID() };
      const begin = this.context.recorder.now();
      await this.#untilAnswered(await this.caller.fetch(server, [item], this.deadlineMs, false), begin, false);
    };
    // The first one keeps the service busy, so that the others share a statement.
    const first = fetchOne();
    await Promise.all([first, this.caller.fetch(server, [known], this.deadlineMs, false), fetchOne(), fetchOne()]);
    await fetchOne();
    return true;
  }

  /** Returns the items of an answered request that is certainly remembered. */
  #pickAnswered(): readonly FetchItem[] {
    const { recorder, timing } = this.context;
    this.#answered = this.#answered.filter(({ begin }) => recorder.now() - begin < retryWindow(timing));
    return this.random.pick(this.#answered)?.items ?? [];
  }
}
