import { sql } from 'kysely';
import { COIN_LIFETIME_S, DELIVERY_WINDOW_S } from '../coin';
import { run } from '../database/connection';
import type { Database } from '../database/pool';
import { userHash } from '../database/user-hash';
import { UserDeletedError } from '../errors';
import type { DeletedUserLookup } from '../fence/guard';

/**
 * The time for which a deleted user is remembered, in seconds. A coin that was uploaded at the moment
 * of the deletion expires after its lifetime, and its private half is kept for the delivery window
 * after that. One more day covers clocks that differ.
 */
export const DELETION_MEMORY_S = COIN_LIFETIME_S + DELIVERY_WINDOW_S + 86_400;

/** The time between two readings of the deletions of other services, in milliseconds. */
const INTERVAL_MS = 1000;

/**
 * The number of readings after one that found deleted users, at which they are reported again: a
 * claim that was committed before the deletion may have been answered and recorded after it.
 */
const READINGS_UNTIL_SETTLED = 10;

/**
 * The number of rows before the last known one that are read again. Their numbers were taken before
 * that of the last one, and they may have been committed after it.
 */
const OVERLAP = 100;

interface Row {
  key: Buffer;
  newest: string | null;
  user_hash: string | null;
}

/**
 * Knows the deleted users by their keyed hashes. A service reads them from the database once a
 * second, and after a deletion of its own at once.
 */
export class DeletedUsers {
  readonly #db: Database;
  readonly #onDeleted: (isDeleted: DeletedUserLookup, fresh: readonly string[]) => Promise<void>;
  readonly #hashes = new Set<string>();
  readonly #hashOfCaller = new WeakMap<object, string>();
  #key = Buffer.alloc(0);
  #newest = 0n;
  #isLoaded = false;
  /** The number of readings until the deleted users are reported again; 0: they were. */
  #unsettled = 0;
  #reading = Promise.resolve();

  /**
   * @param onDeleted is called after each reading that found more deleted users, and once more ten
   *   readings after the last of these, with a function that returns a user's hash if that user was
   *   deleted, and with the hashes that were found, without those of the first reading
   */
  constructor(db: Database, onDeleted: (isDeleted: DeletedUserLookup, fresh: readonly string[]) => Promise<void>) {
    this.#db = db;
    this.#onDeleted = onDeleted;
  }

  /**
   * Refuses a caller whose account was deleted, as far as this process knows.
   * @throws UserDeletedError
   */
  refuse(caller: { readonly userId: string }): void {
    if (this.#hashes.size === 0) return;
    let hashed = this.#hashOfCaller.get(caller);
    if (hashed === undefined) {
      hashed = userHash(this.#key, caller.userId);
      this.#hashOfCaller.set(caller, hashed);
    }
    if (this.#hashes.has(hashed)) throw new UserDeletedError();
  }

  /** Reads the deletions that were committed before the call and that this process does not know. */
  read(): Promise<void> {
    const reading = this.#reading.then(() => this.#read());
    this.#reading = reading.catch(() => {});
    return reading;
  }

  /** Reads now and then once a second. A failed reading is repeated a second later. */
  watch(): { stop(): void } {
    let isReading = false;
    const read = async () => {
      if (isReading) return;
      isReading = true;
      await this.read().catch(() => {});
      isReading = false;
    };
    void read();
    const timer = setInterval(() => void read(), INTERVAL_MS).unref();
    return { stop: () => clearInterval(timer) };
  }

  async #read(): Promise<void> {
    const rows = await run(this.#db, deletionsSince(this.#newest - BigInt(OVERLAP)));
    const [first] = rows;
    if (!first) throw new Error('The database has no key for deletions. Run the migrations.');
    const newest = BigInt(first.newest ?? 0);
    // Another key, or fewer deletions: the database was replaced, or all were forgotten.
    if (!first.key.equals(this.#key) || newest < this.#newest) {
      const isOther = this.#key.length > 0;
      this.#key = Buffer.from(first.key);
      this.#hashes.clear();
      this.#newest = 0n;
      if (isOther) return this.#read();
    }
    const added = rows.flatMap(({ user_hash: found }) => (found !== null && !this.#hashes.has(found) ? [found] : []));
    for (const each of added) this.#hashes.add(each);
    this.#newest = newest;
    const isFirst = !this.#isLoaded;
    this.#isLoaded = true;
    if (added.length > 0) this.#unsettled = READINGS_UNTIL_SETTLED;
    else if (this.#unsettled === 0 || --this.#unsettled > 0) return;
    await this.#onDeleted(
      (userId) => {
        const hashed = userHash(this.#key, userId);
        return this.#hashes.has(hashed) ? hashed : undefined;
      },
      isFirst ? [] : added,
    );
  }
}

function deletionsSince(number: bigint) {
  return sql<Row>`
SELECT k.key, (SELECT max(number) FROM database_deletion) AS newest, d.user_hash
FROM database_deletion_key k
LEFT JOIN database_deletion d ON d.number > ${number}::bigint`;
}
