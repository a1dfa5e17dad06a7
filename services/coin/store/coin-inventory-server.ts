import { LIMITS, type UserDevice } from '../coin';
import type { Database } from '../database/pool';
import type { CountReplica } from '../database/replica';
import { Deadline } from '../deadline';
import { FencedError } from '../errors';
import { type Guard, UNVERIFIED } from '../fence/guard';
import { count, type Job } from '../telemetry/metrics';
import { traceItems } from '../telemetry/tracing';
import { type BatchingRules, type CoinFetch, CoinFetches, type FetchAnswer } from './claim/fetch-coins';
import type { DeviceAnswer, DeviceFetch } from './claim/fetch-device-coins';
import { countCoins, type StockCount } from './count-coins';
import { countOnReplica } from './count-on-replica';
import { deleteUser } from './delete-user';
import { DeletedUsers } from './deleted-users';
import { clearRetired } from './housekeeping/clear-retired';
import { forgetDeleted } from './housekeeping/forget-deleted';
import { forgetRemovedDevices } from './housekeeping/forget-removed-devices';
import { forgetSpent } from './housekeeping/forget-spent';
import { hardDeleteFetched } from './housekeeping/hard-delete-fetched';
import { whenDue } from './housekeeping/job-lease';
import { purgeStale } from './housekeeping/purge-stale';
import { type ListedDevice, listDevices } from './list-devices';
import { OneAtATime } from './one-at-a-time';
import { type ReconcileAnswer, reconcileCoins, STATE_NAMES, type VaultListing } from './reconcile-coins';
import { removeDevice } from './remove-device';
import { type UploadAnswer, type UploadedCoin, uploadCoins } from './upload-coins';

export interface InventoryRules {
  /** The time for which the answer to a fetch is remembered for repeats, in seconds. */
  readonly fetchGraceSeconds: number;
  /** The maximum number of coins of one category that one device may have in stock. */
  readonly stockLimit: number;
  /** The maximum number of devices of one user, without removed ones; 50 by default. */
  readonly maxDevices?: number;
  /**
   * The limits within which concurrent fetches share statements. By default every fetch has a
   * statement of its own.
   */
  readonly batching?: BatchingRules;
  /**
   * The time in milliseconds after which no service begins a fetch by a deleted user; 2000 by
   * default. Each service reads the deletions once a second.
   */
  readonly deletionSettleMs?: number;
}

const DELETION_SETTLE_MS = 2000;

/**
 * The inventory of coins in one PostgreSQL database. It promises that no coin, named by (user, key
 * id), is ever handed out to two requesters: under concurrency, across any number of service
 * processes, after a crash, a repeated upload or a hard delete. A hand-out is committed to disk
 * before the answer leaves.
 *
 * Every method may throw DatabaseUnavailableError and OverloadedError. Nothing is half done then,
 * but the outcome of the call may be unknown, which is what request ids are for. No statement
 * begins after the `deadline`: the method then throws DeadlineExceededError or CancelledError. A
 * statement that has begun runs to its end. While the restore fence is closed, methods that hand
 * out, store or purge throw FencedError.
 */
export class CoinInventoryServer {
  readonly #db: Database;
  readonly #guard: Guard;
  readonly #rules: InventoryRules;
  readonly #fetches: CoinFetches;
  readonly #replica: CountReplica | undefined;
  /** Uploads of one user wait for each other here, and not with a connection at the lock of the user. */
  readonly #uploads = new OneAtATime();
  readonly deletedUsers: DeletedUsers;

  /** @param replica counts coins for getInventoryCount; undefined: the database counts */
  constructor(db: Database, guard: Guard, rules: InventoryRules, replica?: CountReplica) {
    this.#db = db;
    this.#guard = guard;
    this.#rules = rules;
    this.#replica = replica;
    this.deletedUsers = new DeletedUsers(db, (lookup, hashes) => guard.recordDeletions(lookup, hashes));
    this.#fetches = new CoinFetches({ db, guard, graceSeconds: rules.fetchGraceSeconds }, rules.batching);
  }

  /** The estimated wait of a fetch for its batch, in milliseconds. */
  get expectedMs(): number {
    return this.#fetches.expectedMs;
  }

  /** The number of fetches that wait for a batch. */
  get waiting(): number {
    return this.#fetches.waiting;
  }

  /**
   * Adds at most 100 coins to the stock of a device.
   * @throws EpochChangedError, InvalidFieldError, UserDeletedError, DeviceRemovedError, TooManyDevicesError
   */
  async uploadCoins(
    owner: UserDevice,
    coins: readonly UploadedCoin[],
    epoch: string,
    deadline = Deadline.NONE,
  ): Promise<UploadAnswer> {
    const { stockLimit, maxDevices = LIMITS.devicesPerUser } = this.#rules;
    const answer = await this.#uploads.run(owner.userId, () =>
      uploadCoins(this.#db, this.#guard, owner, coins, epoch, { stockLimit, maxDevices, deadline }),
    );
    traceItems(count.uploads(coins, answer.outcomes));
    return answer;
  }

  /** Hands out coins to the requester. */
  async fetchOne(requesterId: string, fetch: CoinFetch, deadline = Deadline.NONE): Promise<FetchAnswer> {
    const answer = await this.#fetches.fetchOne(requesterId, fetch, deadline);
    traceItems([count.fetch(fetch, answer)]);
    return answer;
  }

  /**
   * Hands out coins for several fetches. Returns an answer for each, in order; one that fails does
   * so alone.
   */
  async fetchCoins(
    requesterId: string,
    fetches: readonly CoinFetch[],
    deadline = Deadline.NONE,
  ): Promise<FetchAnswer[]> {
    const answers = await this.#fetches.fetchAll(requesterId, fetches, deadline);
    traceItems(answers.map((answer, index) => count.fetch(fetches[index], answer)));
    return answers;
  }

  /**
   * Hands out coins for the devices of several users. Returns an answer for each fetch, in order; one that fails does so
   * alone.
   */
  async fetchDeviceCoins(
    requesterId: string,
    fetches: readonly DeviceFetch[],
    deadline = Deadline.NONE,
  ): Promise<DeviceAnswer[]> {
    const answers = await this.#fetches.devices.fetchAll(requesterId, fetches, deadline);
    traceItems(answers.map((answer, index) => count.deviceFetch(fetches[index], answer)));
    return answers;
  }

  /**
   * Counts the coins of a device that could be fetched now, or with a replica a moment ago. Zero while
   * the fence is closed.
   */
  async getInventoryCount(owner: UserDevice, deadline = Deadline.NONE): Promise<StockCount> {
    try {
      return await this.#guard.run(async (token) => {
        const count = this.#replica
          ? await countOnReplica(this.#db, this.#replica, owner, token, deadline)
          : await countCoins(this.#db, owner, token.incarnation, deadline);
        return count.verified ? count : UNVERIFIED;
      });
    } catch (error) {
      if (error instanceof FencedError) return countCoins(this.#db, owner, '', deadline);
      throw error;
    }
  }

  /**
   * Returns what is known of the ids in the vault of a device, and retires the coins of the device
   * that a complete list lacks.
   * @throws EpochChangedError, InvalidFieldError, FencedError
   */
  async reconcileCoins(
    owner: UserDevice,
    listing: VaultListing,
    epoch: string,
    deadline = Deadline.NONE,
  ): Promise<ReconcileAnswer> {
    const answer = await reconcileCoins(this.#db, this.#guard, owner, listing, epoch, deadline);
    count.retired(listing.coinCategory, answer.retiredCount);
    traceItems(answer.states.map((state) => STATE_NAMES.get(state)));
    return answer;
  }

  /** Lists the devices of a user with what could be fetched of each. Nothing is counted while the fence is closed. */
  async listDevices(userId: string, deadline = Deadline.NONE): Promise<readonly ListedDevice[]> {
    const list = (incarnation: string) => listDevices(this.#db, userId, incarnation, deadline);
    try {
      return await this.#guard.run(async ({ incarnation }) => {
        const { devices, verified } = await list(incarnation);
        return verified ? devices : UNVERIFIED;
      });
    } catch (error) {
      if (error instanceof FencedError) return (await list('')).devices;
      throw error;
    }
  }

  /**
   * Removes a device of a user: retires its coins and refuses its uploads from then on. Safe to repeat.
   * @returns the number of coins that were retired
   * @throws UserDeletedError, FencedError
   */
  async removeDevice(device: UserDevice, deadline = Deadline.NONE): Promise<number> {
    const retired = await removeDevice(this.#db, this.#guard, device, deadline);
    let sum = 0;
    for (const [coinCategory, coins] of retired) {
      count.retired(coinCategory, coins);
      sum += coins;
    }
    return sum;
  }

  /**
   * Runs a housekeeping job if it is due, once in `periodS` seconds, and no other service runs it.
   * Returns undefined if not.
   */
  whenDue<T>(job: Job, periodS: number, work: () => Promise<T>): Promise<T | undefined> {
    return whenDue(this.#db, job, periodS, work);
  }

  /** Deletes unfetched coins that are too old or past handing out. Returns their number. */
  purgeStale(maxAgeDays: number, deadline = Deadline.NONE): Promise<number> {
    return counted('purge-stale', purgeStale(this.#db, this.#guard, maxAgeDays, deadline));
  }

  /**
   * Removes coins fetched longer than `graceSeconds` ago, at least the fetch grace. Returns their
   * number.
   */
  hardDeleteFetched(graceSeconds: number, deadline = Deadline.NONE): Promise<number> {
    const seconds = Math.max(graceSeconds, this.#rules.fetchGraceSeconds);
    return counted('hard-delete-fetched', hardDeleteFetched(this.#db, seconds, deadline));
  }

  /**
   * Deletes all that the database holds of a user, and refuses uploads of the user from then on.
   * Returns the number of coins and records. It is safe to repeat.
   */
  deleteUser(userId: string, deadline = Deadline.NONE): Promise<number> {
    const onDeleted = () => this.deletedUsers.read();
    const settleMs = this.#rules.deletionSettleMs ?? DELETION_SETTLE_MS;
    return deleteUser(this.#db, this.#guard, userId, { onDeleted, settleMs, deadline });
  }

  /** Forgets deleted users of whom no device can hold a private half any more. Returns their number. */
  forgetDeleted(): Promise<number> {
    return forgetDeleted(this.#db);
  }

  /**
   * Forgets spent ids whose private halves no vault can hold any more, and removed devices of which the
   * same is true. Returns the number of ids.
   */
  async forgetSpent(): Promise<number> {
    await forgetRemovedDevices(this.#db);
    return counted('forget-spent', forgetSpent(this.#db));
  }

  /** Removes the key bytes of coins that an operator retired. Returns the number of coins. */
  clearRetired(): Promise<number> {
    return counted('clear-retired', clearRetired(this.#db));
  }
}

async function counted(job: Job, work: Promise<number>): Promise<number> {
  const coins = await work;
  count.removed(job, coins);
  return coins;
}
