import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import type { Coin, CoinCategory } from '../../gen/aqm/coin/v1/coin';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { HAND_OUT_MARGIN_S, LIMITS } from '../../services/coin/coin';
import type { Caller } from './caller';
import { coinOf, mint } from './coin-bytes';
import type { Failure, FetchCall, FetchItem, Millis } from './history';
import type { Random } from './random';
import type { Recorder } from './recorder';
import { retryWindow, type Timing, type Workload } from './workload';

/** The state that all clients of a run share. */
export interface RunContext {
  readonly recorder: Recorder;
  readonly workload: Workload;
  readonly timing: Timing;
  readonly services: number;
  /** True while faults are injected. */
  faultsActive: boolean;
  stopped: boolean;
}

const CATEGORIES = COIN_CATEGORIES.map((spec) => spec.category);
/**
 * The categories to choose from when fetching. Those with small keys occur more often, so that more calls fit into a
 * run.
 */
const ASKED = COIN_CATEGORIES.flatMap((spec, index) => Array.from({ length: index + 1 }, () => spec.category));

/** True if the failure is transient: a retry may succeed, and it is unknown if the call took effect. */
function isTransient(failure: Failure | undefined): boolean {
  return failure === undefined || !['INTERNAL', 'INVALID_FIELD', 'REQUEST_ID_REUSED'].includes(failure.reason);
}

abstract class Loop {
  constructor(
    protected readonly context: RunContext,
    protected readonly caller: Caller,
    protected readonly random: Random,
  ) {}

  async run(): Promise<void> {
    while (!this.context.stopped) await this.step();
  }

  protected abstract step(): Promise<void>;

  protected anyServer(): number {
    return this.random.between(0, this.context.services - 1);
  }

  protected get deadlineMs(): Millis {
    const { timing, faultsActive } = this.context;
    return faultsActive ? timing.faultDeadlineMs : timing.calmDeadlineMs;
  }

  protected pause(maxMs: Millis): Promise<void> {
    return setTimeout(this.random.between(1, Math.max(1, maxMs)));
  }
}

export interface OwnerOptions {
  /** The stock per category that it maintains. */
  readonly stock: number;
  /** The maximum number of coins per upload. */
  readonly batch: number;
  readonly pauseMs: Millis;
}

/** Uploads coins: new ones to maintain its stock, and sometimes old ones again, whether spent or not. */
export class Owner extends Loop {
  readonly #options: OwnerOptions;
  /** The error of its clock, in milliseconds. */
  readonly #skewMs: number;
  readonly #uploaded: Coin[] = [];

  constructor(context: RunContext, caller: Caller, random: Random, options: OwnerOptions) {
    super(context, caller, random);
    this.#options = options;
    this.#skewMs = random.between(-240_000, 240_000);
  }

  protected async step(): Promise<void> {
    const available = await this.caller.count(this.anyServer(), this.deadlineMs);
    if (available) {
      for (const category of CATEGORIES) await this.#fillUp(category, available.get(category) ?? 0);
      if (this.random.chance(this.context.workload.reuploadShare)) await this.#uploadAgain();
    }
    await this.pause(this.#options.pauseMs);
  }

  async #fillUp(category: CoinCategory, available: number): Promise<void> {
    const { stock, batch } = this.#options;
    if (available >= stock) return;
    const count = Math.min(stock - available, this.random.between(1, batch), LIMITS.coinsPerUpload);
    const coins = Array.from({ length: count }, () => mint(category, this.#expiry()));
    // Repeated until they are known to be stored, as the devices' outbox does.
    while (!(await this.#upload(coins))) await this.pause(100);
    for (const { keyId, coinCategory, expireTime } of coins) this.#remember({ keyId, coinCategory, expireTime });
  }

  /** Remembers an uploaded coin without its bytes, which can be derived from the key id. */
  #remember(coin: Pick<Coin, 'keyId' | 'coinCategory' | 'expireTime'>): void {
    const place = this.#uploaded.length < 2000 ? this.#uploaded.length : this.random.between(0, 1999);
    this.#uploaded[place] = { ...coin, publicKey: Buffer.alloc(0), signature: Buffer.alloc(0), deviceId: '' };
  }

  #expiry(): Date | undefined {
    const dice = this.random.next();
    if (dice < this.context.workload.fadingShare) {
      return new Date(Date.now() + HAND_OUT_MARGIN_S * 1000 + this.random.between(1000, 20_000));
    }
    return dice < 0.5 ? undefined : new Date(Date.now() + this.#skewMs + 23 * 86_400_000);
  }

  async #uploadAgain(): Promise<void> {
    const chosen = new Set(Array.from({ length: this.random.between(1, 20) }, () => this.random.pick(this.#uploaded)));
    const coins = [...chosen].flatMap((coin) => (coin ? coinOf(coin.keyId, coin.coinCategory, coin.expireTime) : []));
    if (coins.length > 0) await this.#upload(coins);
  }

  async #upload(coins: readonly Coin[]): Promise<boolean> {
    const call = await this.caller.upload(this.anyServer(), coins, this.deadlineMs);
    return call.failure === undefined || !isTransient(call.failure);
  }
}

/** The owners from whom a requester fetches. */
export interface Targets {
  readonly hot: readonly string[];
  readonly busy: readonly string[];
  /** The owner from whom only this requester fetches. */
  readonly own: string;
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
    const items = Array.from({ length: size }, () => this.#newItem());
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
    return {
      targetUserId: this.#target(),
      category: random.pick(ASKED) ?? COIN_CATEGORIES[0].category,
      count: random.chance(0.02) ? random.between(1, LIMITS.coinsPerFetch) : random.between(1, workload.maxCount),
      allowLower: random.chance(workload.fallbackShare),
      requestId: random.chance(workload.unnamedShare) ? '' : randomUUID(),
    };
  }

  #target(): string {
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
    const { targetUserId, category } = known;
    const fetchOne = async (): Promise<void> => {
      const item = { targetUserId, category, count: 1, allowLower: false, requestId: randomUUID() };
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

/** Calls with a new token each time, signed with the issuer's newest key, which no service may know yet. */
export class Newcomer extends Loop {
  protected async step(): Promise<void> {
    await this.caller.count(this.anyServer(), this.deadlineMs);
    await this.pause(400);
  }
}

/** Purges and hard-deletes, far more often than the housekeeping schedule of the service. */
export class Operator extends Loop {
  protected async step(): Promise<void> {
    if (this.random.chance(0.6)) await this.caller.hardDelete(this.anyServer(), this.deadlineMs);
    else await this.caller.purgeStale(this.anyServer(), this.deadlineMs);
    await this.pause(600);
  }
}
