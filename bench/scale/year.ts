import { GOLD, mint, SILVER } from '../../testkit/coins';
import { User } from '../../testkit/user';
import type { Stage } from '../service/stage';

/** Coins of one upload: 100 of each mix that the growth has by default. */
const UPLOAD = { gold: 5, silver: 15, bronze: 80 };
const BATCH = 100;
/** Of the coins that are uploaded; the rest is purged. */
const FETCHED_SHARE = 0.8;
const PER_ITEM = 4;
const ITEMS = 20;
const LANES = 4;
const DAY_MS = 86_400_000;
/** From upload to the end of handing out, and from there until no vault can hold the private half. */
const HANDED_OUT_DAYS = 22;
const FORGOTTEN_DAYS = 8;

/** Devices, requesters and hygiene of a service for which a day takes `dayMs`. */
export class Year {
  readonly #stage: Stage;
  readonly #devices: readonly User[];
  readonly #admin: User;
  readonly #dayMs: number;
  #turn = 0;
  readonly totals = { uploaded: 0, fetched: 0, purged: 0, hardDeleted: 0, forgotten: 0 };

  private constructor(stage: Stage, devices: readonly User[], admin: User, dayMs: number) {
    this.#stage = stage;
    this.#devices = devices;
    this.#admin = admin;
    this.#dayMs = dayMs;
  }

  static async begin(stage: Stage, dayMs: number): Promise<Year> {
    const { address } = stage.service;
    const devices = stage.targets.map(async (id) => new User(address, id, await stage.token(id)));
    const [first = ''] = stage.targets;
    return new Year(stage, await Promise.all(devices), new User(address, first, await stage.token(first, true)), dayMs);
  }

  /** So many coins are uploaded, most of them fetched, and everything is removed whose time has come. */
  async day(coins: number): Promise<void> {
    const end = performance.now() + this.#dayMs;
    await this.#inLanes(Math.round(coins / BATCH), () => this.#upload());
    await this.#hardDelete();
    await this.#inLanes(Math.round((coins * FETCHED_SHARE) / (ITEMS * PER_ITEM)), () => this.#fetch());
    await this.#hardDelete();
    const purged = await this.#admin.purgeStale();
    this.totals.purged += purged;
    await this.#forget();
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, end - performance.now())));
  }

  async #upload(): Promise<void> {
    // It is handed out until 24 hours before its end, as always; only what comes before that is short.
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

  /** What store/housekeeping/forget-spent.ts does, with its window as short as the days. */
  async #forget(): Promise<void> {
    const [row] = await this.#stage.query<{ forgotten: number }>(
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

  async #inLanes(times: number, work: () => Promise<void>): Promise<void> {
    let left = times;
    const lane = async (): Promise<void> => {
      while (left > 0) {
        left -= 1;
        await work();
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
  }

  #next(): User {
    return this.#devices[this.#turn++ % this.#devices.length] as User;
  }

  end(): void {
    for (const user of [...this.#devices, this.#admin]) user.close();
  }
}
