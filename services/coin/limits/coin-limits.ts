import type { Logger } from 'pino';
import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import { CoinUploadResult_Outcome as Outcome } from '../../../gen/aqm/coin/v1/coin_service';
import { acceptableCategories, UNNAMED_DEVICE } from '../coin';
import type { CoinRates } from '../config';
import { mayHaveHappened, RateLimitedError } from '../errors';
import type { CoinFetch, FetchAnswer } from '../store/claim/fetch-coins';
import type { DeviceAnswer, DeviceFetch } from '../store/claim/fetch-device-coins';
import type { UploadAnswer } from '../store/upload-coins';
import { CallLimits } from './call-limits';
import { chargesBefore, furtherDevices, settleDevices } from './device-charges';
import { LimitHits, type LimitName } from './limit-hits';
import type { Charge, Limits } from './limits';

/** The part of a fetch by which a repeat is recognized. */
interface Repeatable {
  readonly targetUserId: string;
  readonly requestId: string | undefined;
  readonly onlyRemembered?: boolean;
}

type Answered<Whole> = Whole | { readonly error: unknown };

/** What the fetches of one kind are charged for. */
interface Costs<Fetch, Whole> {
  readonly chargesOf: (fetch: Fetch) => Charge[];
  /** Refunds what a charged fetch did not use, and charges what it used beyond that. */
  readonly settle: (limits: Limits, fetch: Fetch, answer: Answered<Whole> | undefined) => Promise<void> | undefined;
  readonly isEmpty: (answer: Whole) => boolean;
}

/**
 * Rate limits for fetched coins, uploaded coins and reconciled lists. A call is charged for what it
 * requests before it reaches the database. What it did not use is refunded: coins that were not in
 * stock, repeats, and uploads of coins that were present already.
 */
export class CoinLimits {
  readonly #limits: Limits | undefined;
  readonly #rates: CoinRates;
  readonly #hits: LimitHits;
  /** Limits the calls themselves, whatever they ask for; undefined if all limits are off. */
  readonly calls: CallLimits | undefined;

  /**
   * @param limits undefined turns all limits off
   * @param log receives the numbers of refused calls
   */
  constructor(limits: Limits | undefined, rates: CoinRates, log?: Logger) {
    this.#limits = limits;
    this.#rates = rates;
    this.#hits = new LimitHits(log);
    this.calls = limits && new CallLimits(rates.perCaller, this.#hits);
  }

  /**
   * Charges the fetches and answers them by `claim`. A fetch that is over a limit fails alone, with
   * RateLimitedError, unless it repeats an answered one: repeats count against no limit (promise
   * 2). One that cannot repeat, because it has no id, costs no statement then.
   * @throws LimitsUnavailableError, and what `claim` throws
   */
  async fetch(
    requesterId: string,
    fetches: readonly CoinFetch[],
    claim: (fetches: readonly CoinFetch[]) => Promise<FetchAnswer[]>,
  ): Promise<FetchAnswer[]> {
    this.calls?.chargeItems(requesterId, fetches.length);
    return this.#withinLimits(fetches, claim, {
      chargesOf: (fetch) => this.#chargesOf(requesterId, fetch, fetch.count),
      settle: (limits, fetch, answer) => this.#refundUnused(limits, requesterId, fetch, answer),
      isEmpty: ({ coins }) => coins.length === 0,
    });
  }

  /**
   * Does the same for fetches for the devices of users (limits/device-charges.ts). How many coins they hand out is not known
   * before. So the least is charged before, and the rest is owed afterwards.
   * @throws LimitsUnavailableError, and what `claim` throws
   */
  async fetchDevices(
    requesterId: string,
    fetches: readonly DeviceFetch[],
    claim: (fetches: readonly DeviceFetch[]) => Promise<DeviceAnswer[]>,
  ): Promise<DeviceAnswer[]> {
    this.calls?.chargeItems(requesterId, fetches.length);
    const answers = await this.#withinLimits(fetches, claim, {
      chargesOf: (fetch) => chargesBefore(this.#rates, requesterId, fetch),
      settle: (limits, fetch, answer) => settleDevices(limits, this.#rates, requesterId, fetch, answer),
      isEmpty: ({ devices }) => devices.every(({ coins }) => coins.length === 0),
    });
    // Each further device costs as much as a further item.
    this.calls?.chargeItems(requesterId, 1 + furtherDevices(fetches, answers));
    return answers;
  }

  /** Charges fetches of one kind, answers them by `claim`, and settles what they used. */
  async #withinLimits<Fetch extends Repeatable, Whole extends { readonly isRepeat: boolean }>(
    fetches: readonly Fetch[],
    claim: (fetches: readonly Fetch[]) => Promise<Answered<Whole>[]>,
    { chargesOf, settle, isEmpty }: Costs<Fetch, Whole>,
  ): Promise<Answered<Whole>[]> {
    const limits = this.#limits;
    if (!limits) return claim(fetches);
    const isCharged = chargedOf(fetches);
    const waits = await Promise.all(
      fetches.map((fetch, index) => {
        const charges = isCharged[index] ? chargesOf(fetch) : [];
        return charges.length > 0 ? limits.take(charges) : undefined;
      }),
    );
    const settleAll = async (answerOf: (index: number) => Answered<Whole> | undefined): Promise<void> => {
      await Promise.all(
        fetches.map((fetch, index) => (waits[index] === 0 ? settle(limits, fetch, answerOf(index)) : undefined)),
      );
    };
    const asked = fetches.flatMap((fetch, index) => {
      const over = isOver(waits[index]);
      return over && fetch.requestId === undefined ? [] : [{ index, fetch: onlyRememberedIf(over, fetch) }];
    });
    const answers = new Map<number, Answered<Whole>>();
    try {
      const claimed = asked.length === 0 ? [] : await claim(asked.map(({ fetch }) => fetch));
      claimed.forEach((answer, position) => {
        answers.set(asked[position]?.index ?? -1, answer);
      });
    } catch (error) {
      await settleAll(() => ({ error }));
      throw error;
    }
    await settleAll((index) => answers.get(index));
    return fetches.map((_, index) => {
      const waitMs = waits[index];
      const answer = answers.get(index);
      if (answer && (!isOver(waitMs) || 'error' in answer || !isEmpty(answer))) return answer;
      return { error: this.#overLimit('fetch', waitMs ?? 0, 'fetched coins') };
    });
  }

  /**
   * Does the same for a single fetch, which most calls are. It stays apart from `fetch`: a batch of
   * one would cost 2 µs more per call, on top of 4.9 µs.
   * @throws LimitsUnavailableError, and what `claim` throws
   */
  async fetchOne(
    requesterId: string,
    fetch: CoinFetch,
    claim: (fetch: CoinFetch) => Promise<FetchAnswer>,
  ): Promise<FetchAnswer> {
    const limits = this.#limits;
    if (!limits) return claim(fetch);
    const waitMs = await limits.take(this.#chargesOf(requesterId, fetch, fetch.count));
    if (isOver(waitMs)) {
      const answer = fetch.requestId === undefined ? NOTHING : await claim(onlyRememberedIf(true, fetch));
      return this.#refusedIf(waitMs, answer);
    }
    let answer: FetchAnswer;
    try {
      answer = await claim(fetch);
    } catch (error) {
      await this.#refundUnused(limits, requesterId, fetch, { error });
      throw error;
    }
    await this.#refundUnused(limits, requesterId, fetch, answer);
    return answer;
  }

  /**
   * Charges an upload of `count` coins and runs it.
   * @throws RateLimitedError, LimitsUnavailableError, and what `store` throws
   */
  async upload(userId: string, count: number, store: () => Promise<UploadAnswer>): Promise<UploadAnswer> {
    const charge = (amount: number): Charge => ({
      budget: `upload:${userId}`,
      rate: this.#rates.perUploader,
      amount,
    });
    const limits = this.#limits;
    if (!limits) return store();
    const waitMs = await limits.take([charge(count)]);
    if (waitMs > 0) throw this.#overLimit('upload', waitMs, 'uploaded coins');
    let unused = 0;
    try {
      const answer = await store();
      unused = answer.outcomes.filter((outcome) => outcome === Outcome.OUTCOME_ALREADY_PRESENT).length;
      return answer;
    } catch (error) {
      unused = mayHaveHappened(error) ? 0 : count;
      throw error;
    } finally {
      if (unused > 0) await limits.refund([charge(unused)]);
    }
  }

  /**
   * Charges one reconcile, or one removal of a device, and runs it. Every call is charged, because
   * reading the stock is what costs.
   * @throws RateLimitedError, LimitsUnavailableError, and what `read` throws
   */
  async reconcile<T>(userId: string, read: () => Promise<T>): Promise<T> {
    const charge: Charge = { budget: `reconcile:${userId}`, rate: this.#rates.perReconciler, amount: 1 };
    const waitMs = (await this.#limits?.take([charge])) ?? 0;
    if (waitMs > 0) throw this.#overLimit('reconcile', waitMs, 'reconciled lists and removed devices');
    return read();
  }

  async close(): Promise<void> {
    await this.#limits?.close();
  }

  /** Refunds what a charged fetch did not use. Returns undefined if it used everything. */
  #refundUnused(
    limits: Limits,
    requesterId: string,
    fetch: CoinFetch,
    answer: FetchAnswer | undefined,
  ): Promise<void> | undefined {
    const unused = fetch.count - usedBy(answer, fetch.count);
    // A fetch that may fall back is charged for every category that it may get.
    if (unused === 0 && !fetch.allowLowerCategories) return undefined;
    const charges = this.#chargesOf(
      requesterId,
      fetch,
      unused,
      (category) => fetch.count - usedBy(answer, fetch.count, category),
    ).filter(({ amount }) => amount > 0);
    return charges.length > 0 ? limits.refund(charges) : undefined;
  }

  /** @param amountOf the amount of one category; default: the amount of all */
  #chargesOf(
    requesterId: string,
    { targetUserId, deviceId, coinCategory, allowLowerCategories }: CoinFetch,
    amount: number,
    amountOf?: (category: CoinCategory) => number,
  ): Charge[] {
    const { perRequester, perPair, perTarget } = this.#rates;
    // Each device has a stock of its own.
    const stock = deviceId === UNNAMED_DEVICE ? targetUserId : `${targetUserId}:${deviceId}`;
    const charges = [
      { budget: `requester:${requesterId}`, rate: perRequester, amount },
      { budget: `target:${stock}`, rate: perTarget, amount },
    ];
    const pair = `pair:${requesterId}:${stock}:`;
    const chargePair = (category: CoinCategory) =>
      charges.push({ budget: pair + category, rate: perPair, amount: amountOf?.(category) ?? amount });
    if (allowLowerCategories) acceptableCategories(coinCategory, true).forEach(chargePair);
    else chargePair(coinCategory);
    return charges;
  }

  /**
   * Replaces the answer by an error if the fetch was over a limit and did not repeat an answered one.
   */
  #refusedIf(waitMs: number | undefined, answer: FetchAnswer): FetchAnswer {
    if (!isOver(waitMs) || 'error' in answer || answer.coins.length > 0) return answer;
    return { error: this.#overLimit('fetch', waitMs, 'fetched coins') };
  }

  #overLimit(limit: LimitName, waitMs: number, limited: string): RateLimitedError {
    this.#hits.add(limit);
    return new RateLimitedError(waitMs, limited);
  }
}

/** The answer to a fetch that was not carried out. */
const NOTHING: FetchAnswer = { coins: [], isRepeat: false };

function isOver(waitMs: number | undefined): waitMs is number {
  return waitMs !== undefined && waitMs > 0;
}

function onlyRememberedIf<Fetch extends Repeatable>(over: boolean, fetch: Fetch): Fetch {
  return over ? { ...fetch, onlyRemembered: true } : fetch;
}

/**
 * Returns which fetches of a batch are charged. Several with the same id and target are one fetch:
 * only the first counts.
 */
function chargedOf(fetches: readonly Repeatable[]): boolean[] {
  if (fetches.length === 1) return [true];
  const seen = new Set<string>();
  return fetches.map(({ targetUserId, requestId }) => {
    if (requestId === undefined) return true;
    const fetchKey = `${targetUserId} ${requestId}`;
    return !seen.has(fetchKey) && seen.add(fetchKey) !== undefined;
  });
}

/**
 * Returns how many of the `count` requested coins are charged in the end.
 * @param category only the coins of this category; default: of all
 */
function usedBy(answer: FetchAnswer | undefined, count: number, category?: CoinCategory): number {
  if (answer === undefined) return count;
  if ('error' in answer) return mayHaveHappened(answer.error) ? count : 0;
  if (answer.isRepeat) return 0;
  return category === undefined
    ? answer.coins.length
    : answer.coins.filter(({ coinCategory }) => coinCategory === category).length;
}
