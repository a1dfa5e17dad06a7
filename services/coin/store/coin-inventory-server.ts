import type { StoredCoin } from '../coin';
import type { Database } from '../database/pool';
import type { CountReplica } from '../database/replica';
import { Deadline } from '../deadline';
import { FencedError } from '../errors';
import { type Guard, UNVERIFIED } from '../fence/guard';
import { count, type Job } from '../telemetry/metrics';
import { type BatchingRules, ClaimBatcher } from './claim/batcher';
import { type Claims, type CoinFetch, type FetchAnswer, fetchCoins, fetchOne } from './claim/fetch-coins';
import { countCoins, type StockCount } from './count-coins';
import { countOnReplica } from './count-on-replica';
import { clearRetired } from './housekeeping/clear-retired';
import { forgetSpent } from './housekeeping/forget-spent';
import { hardDeleteFetched } from './housekeeping/hard-delete-fetched';
import { purgeStale } from './housekeeping/purge-stale';
import { type ReconcileAnswer, reconcileCoins, type VaultListing } from './reconcile-coins';
import { type UploadAnswer, uploadCoins } from './upload-coins';

export interface InventoryRules {
  /** How long the answer to a fetch is remembered, in seconds. */
  readonly fetchGraceSeconds: number;
  /** How many coins of one category one user may have in stock. */
  readonly stockLimit: number;
  /** How fetches share statements; undefined, or a batch of one: they do not. */
  readonly batching?: BatchingRules;
}

/**
 * The inventory of coins in one PostgreSQL database. It promises that no coin, named by (user, key id), is ever handed
 * to two requesters: under concurrency, across any number of servers, after a crash, a repeated upload, a hard
 * delete. Handing out is committed to disk before the answer leaves.
 *
 * Every method may throw DatabaseUnavailableError and OverloadedError; nothing is half done then, but the outcome
 * of the call may be unknown, which is what request ids are for. No statement is begun after the `deadline`: then the
 * method throws DeadlineExceededError or CancelledError; one that was begun before runs to its end. While the restore fence is up, what hands out, stores
 * or purges throws FencedError.
 */
export class CoinInventoryServer {
  readonly #db: Database;
  readonly #gate: Guard;
  readonly #rules: InventoryRules;
  readonly #batching: ClaimBatcher | undefined;
  readonly #claims: Claims;
  readonly #replica: CountReplica | undefined;

  /** @param replica where coins are counted for getInventoryCount; undefined: in the database */
  constructor(db: Database, gate: Guard, rules: InventoryRules, replica?: CountReplica) {
    this.#db = db;
    this.#gate = gate;
    this.#rules = rules;
    this.#replica = replica;
    const { batching, fetchGraceSeconds: graceSeconds } = rules;
    if (batching && batching.batch > 1) this.#batching = new ClaimBatcher(db, gate, { ...batching, graceSeconds });
    const maxTargets = batching?.targets ?? Number.POSITIVE_INFINITY;
    this.#claims = { db, gate, graceSeconds, maxTargets, batching: this.#batching };
  }

  /** How long one more fetch would wait for its turn in a shared statement, in milliseconds. */
  get expectedMs(): number {
    return this.#batching?.expectedMs ?? 0;
  }

  /** Fetches that wait for their turn. */
  get waiting(): number {
    return this.#batching?.waiting ?? 0;
  }

  /** Adds at most 100 coins to the user's own stock. @throws EpochChangedError */
  async uploadCoins(
    userId: string,
    coins: readonly StoredCoin[],
    epoch: string,
    deadline = Deadline.NONE,
  ): Promise<UploadAnswer> {
    const { stockLimit } = this.#rules;
    const answer = await uploadCoins(this.#db, this.#gate, userId, coins, epoch, { stockLimit, deadline });
    count.uploads(coins, answer.outcomes);
    return answer;
  }

  /** Hands coins out to the requester. */
  async fetchOne(requesterId: string, fetch: CoinFetch, deadline = Deadline.NONE): Promise<FetchAnswer> {
    const answer = await fetchOne(this.#claims, fetch, { requesterId, deadline });
    count.fetch(fetch, answer);
    return answer;
  }

  /** The same for several fetches: an answer for each, in order; a bad one fails alone. */
  async fetchCoins(
    requesterId: string,
    fetches: readonly CoinFetch[],
    deadline = Deadline.NONE,
  ): Promise<FetchAnswer[]> {
    const answers = await fetchCoins(this.#claims, fetches, { requesterId, deadline });
    for (const [index, answer] of answers.entries()) count.fetch(fetches[index], answer);
    return answers;
  }

  /** Counts what could be fetched of one user now, or with a replica a moment ago: nothing while the fence is up. */
  async getInventoryCount(userId: string, deadline = Deadline.NONE): Promise<StockCount> {
    try {
      return await this.#gate.run(async (passage) => {
        const count = this.#replica
          ? await countOnReplica(this.#db, this.#replica, userId, passage, deadline)
          : await countCoins(this.#db, userId, passage.incarnation, deadline);
        return count.verified ? count : UNVERIFIED;
      });
    } catch (error) {
      if (error instanceof FencedError) return countCoins(this.#db, userId, '', deadline);
      throw error;
    }
  }

  /**
   * Tells what is known of the ids in the user's vault, and retires the user's coins that a complete list lacks.
   * @throws EpochChangedError, InvalidFieldError, FencedError
   */
  async reconcileCoins(
    userId: string,
    listing: VaultListing,
    epoch: string,
    deadline = Deadline.NONE,
  ): Promise<ReconcileAnswer> {
    const answer = await reconcileCoins(this.#db, this.#gate, userId, listing, epoch, deadline);
    count.retired(listing.coinCategory, answer.retiredCount);
    return answer;
  }

  /** Deletes unfetched coins that are old or past handing out. @returns how many */
  purgeStale(maxAgeDays: number, deadline = Deadline.NONE): Promise<number> {
    return counted('purge-stale', purgeStale(this.#db, this.#gate, maxAgeDays, deadline));
  }

  /** Removes fetched coins older than `graceSeconds`, at least the fetch grace. @returns how many */
  hardDeleteFetched(graceSeconds: number, deadline = Deadline.NONE): Promise<number> {
    const seconds = Math.max(graceSeconds, this.#rules.fetchGraceSeconds);
    return counted('hard-delete-fetched', hardDeleteFetched(this.#db, seconds, deadline));
  }

  /** Forgets spent ids that no vault can open any more. @returns how many */
  forgetSpent(): Promise<number> {
    return counted('forget-spent', forgetSpent(this.#db));
  }

  /** Removes the key bytes of coins that an operator retired. @returns of how many */
  clearRetired(): Promise<number> {
    return counted('clear-retired', clearRetired(this.#db));
  }
}

async function counted(job: Job, work: Promise<number>): Promise<number> {
  const coins = await work;
  count.removed(job, coins);
  return coins;
}
