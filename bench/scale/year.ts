import { GOLD, mint, SILVER } from '../../testkit/coins';
import { User } from '../../testkit/user';
import type { TestBed } from '../harness/test-bed';

/** The 100 coins of one upload, in the default mix of growth.ts. */
const UPLOAD = { gold: 5, silver: 15, bronze: 80 };
const BATCH = 100;
/** The share of uploaded coins that are fetched. The rest is purged. */
const FETCHED_SHARE = 0.8;
/** Coins per item, and items per batch fetch. */
const PER_ITEM = 4;
const ITEMS = 20;
const CONCURRENCY = 4;
const DAY_MS = 86_400_000;
/**
 * Days from upload until a coin is no longer handed out (its lifetime of 23 days less the hand-out
 * margin), and from then until no vault can hold its private half (margin and delivery window).
 */
const HANDED_OUT_DAYS = 22;
const FORGOTTEN_DAYS = 8;

/** Plays the devices, the requesters and the housekeeping of a service for which a day takes at least `dayMs` milliseconds. */
export class Year {
  readonly #testBed: TestBed;
  readonly #devices: readonly User[];
  readonly #admin: User;
  readonly #dayMs: number;
  #calls = 0;
  readonly totals = { uploaded: 0, fetched: 0, purged: 0, hardDeleted: 0, forgotten: 0 };

  private constructor(testBed: TestBed, devices: readonly User[], admin: User, dayMs: number) {
    this.#testBed = testBed;
    this.#devices = devices;
    this.#admin = admin;
    this.#dayMs = dayMs;
  }

  static async begin(testBed: TestBed, dayMs: number): Promise<Year> {
    const { address } = testBed.service;
    const devices = testBed.targets.map(async (id) => new User(address, id, await testBed.token(id)));
    const [first = ''] = testBed.targets;
    return new Year(
      testBed,
      await Promise.all(devices),
      new User(address, first, await testBed.token(first, true)),
      dayMs,
    );
  }

  /** Simulates one day: uploads coins, fetches most of them, and runs all housekeeping, the frequent hard delete twice. */
  async day(coins: number): Promise<void> {
    const end = performance.now() + this.#dayMs;
    await this.#concurrently(Math.round(coins / BATCH), () => this.#upload());
    await this.#hardDelete();
    await this.#concurrently(Math.round((coins * FETCHED_SHARE) / (ITEMS * PER_ITEM)), () => this.#fetch());
    await this.#hardDelete();
    const purged = await this.#admin.purgeStale();
    this.totals.purged += purged;
    await this.#forget();
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, end - performance.now())));
  }

  async #upload(): Promise<void> {
    // A coin is handed out until 24 hours before it expires, as always. Only the time before that is shortened.
    const expireTime = new Date(Date.now() + DAY_MS + HANDED_OUT_DAYS * this.#dayMs);
    const coins = [
      ...mint(UPLOAD.gold, GOLD, { expireTime }),
      ...mint(UPLOAD.silver, SILVER, { expireTime }),
      ...mint(UPLOAD.bronze, undefined, { expireTime }),
    ];
    const { insertedCount } = await this.#next().upload(coins);
    this.totals.uploaded += insertedCount;
  }

  async #fetch(): Promise<void> {
    const requests = Array.from({ length: ITEMS }, () => ({
      targetUserId: this.#next().id,
      coinCategory: GOLD,
      count: PER_ITEM,
      allowLowerCategories: true,
    }));
    const { results } = await this.#next().batchFetch(requests);
    this.totals.fetched += results.reduce((sum, { coins }) => sum + coins.length, 0);
  }

  async #hardDelete(): Promise<void> {
    const deleted = await this.#admin.hardDelete();
    this.totals.hardDeleted += deleted;
  }

  /** Does what store/housekeeping/forget-spent.ts does, with its window scaled to the length of a simulated day. */
  async #forget(): Promise<void> {
    const [row] = await this.#testBed.query<{ forgotten: number }>(
      `WITH gone AS (
         DELETE FROM coin WHERE public_key IS NULL
           AND expire_time < now() + interval '24 hours' - make_interval(secs => $1)
         RETURNING 1
       )
       SELECT count(*)::int AS forgotten FROM gone`,
      [(FORGOTTEN_DAYS * this.#dayMs) / 1000],
    );
    this.totals.forgotten += row?.forgotten ?? 0;
  }

  async #concurrently(times: number, work: () => Promise<void>): Promise<void> {
    let left = times;
    const worker = async (): Promise<void> => {
      while (left > 0) {
        left -= 1;
        await work();
      }
    };
    await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  }

  #next(): User {
    return this.#devices[this.#calls++ % this.#devices.length] as User;
  }

  end(): void {
    for (const user of [...this.#devices, this.#admin]) user.close();
  }
}
