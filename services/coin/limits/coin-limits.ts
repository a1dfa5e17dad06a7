import { CoinUploadResult_Outcome as Outcome } from '../../../gen/aqm/coin/v1/coin_service';
import type { CoinRates } from '../config';
import { DatabaseUnavailableError, RateLimitedError } from '../errors';
import type { CoinFetch, FetchAnswer } from '../store/claim/fetch-coins';
import type { UploadAnswer } from '../store/upload-coins';
import { count } from '../telemetry/metrics';
import type { Charge, Limits } from './limits';

/**
 * How many coins may be fetched and uploaded in what time, and how often lists may be reconciled. A call is charged for what it asks for before it reaches the
 * database, and gets back what it did not use: coins that were not there, repeats, and uploads of what was there.
 */
export class CoinLimits {
  readonly #limits: Limits | undefined;
  readonly #rates: CoinRates;

  /** @param limits undefined: nothing is limited */
  constructor(limits: Limits | undefined, rates: CoinRates) {
    this.#limits = limits;
    this.#rates = rates;
  }

  /**
   * Answers the fetches by `claim`. A fetch that is over a limit fails alone, with RateLimitedError, unless it repeats
   * one that was answered: repeats count against no limit (promise 2).
   * @throws LimitsUnavailableError, and what `claim` throws
   */
  async fetch(
    requesterId: string,
    fetches: readonly CoinFetch[],
    claim: (fetches: readonly CoinFetch[]) => Promise<FetchAnswer[]>,
  ): Promise<FetchAnswer[]> {
    const limits = this.#limits;
    if (!limits) return claim(fetches);
    const charged = chargedOf(fetches);
    const waits = await Promise.all(
      fetches.map((fetch, index) =>
        charged[index] ? limits.take(this.#chargesOf(requesterId, fetch, fetch.count)) : undefined,
      ),
    );
    const giveBack = async (answerOf: (index: number) => FetchAnswer | undefined): Promise<void> => {
      const returns = fetches.map((fetch, index) =>
        waits[index] === 0 ? this.#giveBack(limits, requesterId, fetch, answerOf(index)) : undefined,
      );
      await Promise.all(returns);
    };
    let answers: FetchAnswer[];
    try {
      answers = await claim(fetches.map((fetch, index) => onlyRememberedIf(isOver(waits[index]), fetch)));
    } catch (error) {
      await giveBack(() => ({ error }));
      throw error;
    }
    await giveBack((index) => answers[index]);
    return answers.map((answer, index) => refusedIf(waits[index], answer));
  }

  /** The same for one, which is what most calls are. */
  async fetchOne(
    requesterId: string,
    fetch: CoinFetch,
    claim: (fetch: CoinFetch) => Promise<FetchAnswer>,
  ): Promise<FetchAnswer> {
    const limits = this.#limits;
    if (!limits) return claim(fetch);
    const waitMs = await limits.take(this.#chargesOf(requesterId, fetch, fetch.count));
    if (isOver(waitMs)) return refusedIf(waitMs, await claim(onlyRememberedIf(true, fetch)));
    let answer: FetchAnswer;
    try {
      answer = await claim(fetch);
    } catch (error) {
      await this.#giveBack(limits, requesterId, fetch, { error });
      throw error;
    }
    await this.#giveBack(limits, requesterId, fetch, answer);
    return answer;
  }

  /** @throws RateLimitedError, LimitsUnavailableError, and what `store` throws */
  async upload(userId: string, count: number, store: () => Promise<UploadAnswer>): Promise<UploadAnswer> {
    const charge = (amount: number): Charge => ({
      budget: `upload:${userId}`,
      rate: this.#rates.perUploader,
      amount,
    });
    const limits = this.#limits;
    if (!limits) return store();
    const waitMs = await limits.take([charge(count)]);
    if (waitMs > 0) throw overLimit('upload', waitMs, 'coins were uploaded');
    let present = 0;
    try {
      const answer = await store();
      present = answer.outcomes.filter((outcome) => outcome === Outcome.OUTCOME_ALREADY_PRESENT).length;
      return answer;
    } catch (error) {
      present = mayHaveHappened(error) ? 0 : count;
      throw error;
    } finally {
      if (present > 0) await limits.giveBack([charge(present)]);
    }
  }

  /** Every call counts, for it is the reading that costs. @throws RateLimitedError, LimitsUnavailableError, and what `read` throws */
  async reconcile<T>(userId: string, read: () => Promise<T>): Promise<T> {
    const charge: Charge = { budget: `reconcile:${userId}`, rate: this.#rates.perReconciler, amount: 1 };
    const waitMs = (await this.#limits?.take([charge])) ?? 0;
    if (waitMs > 0) throw overLimit('reconcile', waitMs, 'lists were reconciled');
    return read();
  }

  async close(): Promise<void> {
    await this.#limits?.close();
  }

  /** What a fetch that was charged did not use; undefined where it used all. */
  #giveBack(
    limits: Limits,
    requesterId: string,
    fetch: CoinFetch,
    answer: FetchAnswer | undefined,
  ): Promise<void> | undefined {
    const unused = fetch.count - usedBy(answer, fetch.count);
    return unused > 0 ? limits.giveBack(this.#chargesOf(requesterId, fetch, unused)) : undefined;
  }

  #chargesOf(requesterId: string, { targetUserId }: CoinFetch, amount: number): Charge[] {
    const { perRequester, perPair, perTarget } = this.#rates;
    return [
      { budget: `requester:${requesterId}`, rate: perRequester, amount },
      { budget: `pair:${requesterId}:${targetUserId}`, rate: perPair, amount },
      { budget: `target:${targetUserId}`, rate: perTarget, amount },
    ];
  }
}

function overLimit(limit: Parameters<typeof count.limitHit>[0], waitMs: number, what: string): RateLimitedError {
  count.limitHit(limit);
  return new RateLimitedError(waitMs, what);
}

/** A fetch that was over a limit, and no repeat of one that was answered. */
function refusedIf(waitMs: number | undefined, answer: FetchAnswer): FetchAnswer {
  if (!isOver(waitMs) || 'error' in answer || answer.coins.length > 0) return answer;
  count.limitHit('fetch');
  return { error: new RateLimitedError(waitMs, 'coins were fetched') };
}

function isOver(waitMs: number | undefined): waitMs is number {
  return waitMs !== undefined && waitMs > 0;
}

function onlyRememberedIf(over: boolean, fetch: CoinFetch): CoinFetch {
  return over ? { ...fetch, onlyRemembered: true } : fetch;
}

/** Of two fetches with the same id and target, which are one fetch, the first is charged. */
function chargedOf(fetches: readonly CoinFetch[]): boolean[] {
  if (fetches.length === 1) return [true];
  const seen = new Set<string>();
  return fetches.map(({ targetUserId, requestId }) => {
    if (requestId === undefined) return true;
    const name = `${targetUserId} ${requestId}`;
    return !seen.has(name) && seen.add(name) !== undefined;
  });
}

function usedBy(answer: FetchAnswer | undefined, count: number): number {
  if (answer === undefined) return count;
  if ('error' in answer) return mayHaveHappened(answer.error) ? count : 0;
  return answer.isRepeat ? 0 : answer.coins.length;
}

/** A connection that broke leaves open whether the statement was carried out. */
function mayHaveHappened(error: unknown): boolean {
  return error instanceof DatabaseUnavailableError;
}
