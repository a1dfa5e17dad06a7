import { setTimeout } from 'node:timers/promises';
import { CompiledQuery } from 'kysely';
import type { CoinCategory } from '../../../../gen/aqm/coin/v1/coin';
import { HAND_OUT_MARGIN_S, type UserDevice } from '../../coin';
import { bigints, smallints, uuids } from '../../database/binary-arrays';
import { run } from '../../database/connection';
import type { Database } from '../../database/pool';
import { CURRENT_INCARNATION, type SpentCoin } from '../../fence/guard';
import { stockOf } from './claim-item';

/** The number of coins of one queue that are handed out before its start is looked up again. */
const COINS_BETWEEN_LOOKUPS = 64;
/** The least time between two lookups, in milliseconds. One looks up all starts that are due. */
const PAUSE_MS = 20;
/** The maximum number of starts of one lookup. */
const MAX_LOOKED_UP = 256;
/** The number of queues that are remembered twice over: the recent ones, and those before them. */
const MAX_QUEUES = 5000;
/** The orders of an upload's coins: its number times this, and their position from 1. */
const ORDERS_PER_UPLOAD = 128n;

/** A coin that was handed out, and the device from whose stock it came. */
export type StockedCoin = SpentCoin & UserDevice;

/** The coins of one user's device and category, in the order in which they are handed out. */
interface Queue extends UserDevice {
  readonly category: CoinCategory;
  /** No coin before this upload_order will be in stock again. */
  start: bigint;
  /** The number of coins that this process handed out since `start` was looked up. */
  taken: number;
}

/**
 * Remembers where the queues of coins begin, so that claims do not read the entries of coins that were
 * handed out. PostgreSQL removes those, unless it must keep them for an older snapshot (a long report,
 * a replication slot that lags): then a claim would read all of them (docs/adr/0025-order-of-claims.md).
 *
 * A start is the first coin in stock that a snapshot shows, which includes coins that a claim in
 * progress takes, and may give back. It is never beyond the coins of an upload in progress.
 */
export class QueueStarts {
  readonly #db: Database;
  #recent = new Map<string, Queue>();
  #before = new Map<string, Queue>();
  readonly #due = new Set<Queue>();
  readonly #uploads = new FinishedUploads();
  /** The incarnation of the database that the starts are of. */
  #incarnation = '';
  #isLookingUp = false;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Returns the upload_order from which a claim has to look; 0 for a queue that is not known. */
  of(incarnation: string, userId: string, deviceId: string, category: CoinCategory): bigint {
    if (incarnation !== this.#incarnation) return 0n;
    const name = nameOf(userId, deviceId, category);
    return (this.#recent.get(name) ?? this.#before.get(name))?.start ?? 0n;
  }

  /** Counts coins that were handed out. */
  count(incarnation: string, coins: readonly StockedCoin[]): void {
    if (incarnation !== this.#incarnation) this.#forget(incarnation);
    for (const { userId, deviceId, coinCategory } of coins) {
      const queue = this.#queue(userId, deviceId, coinCategory);
      queue.taken += 1;
      if (queue.taken === COINS_BETWEEN_LOOKUPS) this.#due.add(queue);
    }
    if (this.#due.size === 0 || this.#isLookingUp) return;
    this.#isLookingUp = true;
    void this.#lookUp();
  }

  #queue(userId: string, deviceId: string, category: CoinCategory): Queue {
    const name = nameOf(userId, deviceId, category);
    let queue = this.#recent.get(name);
    if (queue) return queue;
    queue = this.#before.get(name) ?? { userId, deviceId, category, start: 0n, taken: 0 };
    if (this.#recent.size >= MAX_QUEUES) {
      this.#before = this.#recent;
      this.#recent = new Map();
    }
    this.#recent.set(name, queue);
    return queue;
  }

  #forget(incarnation: string): void {
    this.#incarnation = incarnation;
    this.#recent.clear();
    this.#before.clear();
    this.#due.clear();
    this.#uploads.forget();
  }

  /** Looks up the starts that are due until none is. Never rejects: claims then read on from the older ones. */
  async #lookUp(): Promise<void> {
    while (this.#due.size > 0) {
      const queues = [...this.#due].slice(0, MAX_LOOKED_UP);
      for (const queue of queues) {
        this.#due.delete(queue);
        queue.taken = 0;
      }
      await run(this.#db, startsOf(queues)).then(
        (rows) => this.#learn(queues, rows),
        () => {},
      );
      await setTimeout(PAUSE_MS, undefined, { ref: false });
    }
    this.#isLookingUp = false;
  }

  #learn(queues: readonly Queue[], rows: readonly StartRow[]): void {
    const [first] = rows;
    if (!first || first.incarnation !== this.#incarnation) return;
    const last = this.#uploads.lastFinished(first);
    if (last === undefined) return;
    const end = (last + 1n) * ORDERS_PER_UPLOAD;
    for (const { queue, upload_order } of rows) {
      const found = queues[queue - 1];
      const start = upload_order === null ? end : min(BigInt(upload_order), end);
      if (found && start > found.start) found.start = start;
    }
  }
}

/**
 * Finds out which uploads are certainly finished. An upload has a transaction id before it draws its
 * number (upload-coins.ts). So uploads with numbers up to the last one that an earlier lookup saw have
 * ids below the next id of a later snapshot, and are finished once no transaction below that id runs.
 */
class FinishedUploads {
  /** The last number that was drawn at the previous lookup. */
  #drawn: bigint | undefined;
  /** Uploads up to `number` are finished once no transaction before `id` runs. */
  #pending: { readonly number: bigint; readonly id: bigint } | undefined;
  #finished: bigint | undefined;

  /** Returns the number of the last one; undefined as long as none is known. */
  lastFinished(row: StartRow): bigint | undefined {
    if (this.#pending && BigInt(row.oldest_running) >= this.#pending.id) {
      this.#finished = this.#pending.number;
      this.#pending = undefined;
    }
    if (this.#drawn !== undefined) this.#pending ??= { number: this.#drawn, id: BigInt(row.next_id) };
    this.#drawn = BigInt(row.last_upload);
    return this.#finished;
  }

  forget(): void {
    this.#drawn = undefined;
    this.#pending = undefined;
    this.#finished = undefined;
  }
}

interface StartRow {
  incarnation: string;
  /** The oldest transaction id that is in progress, and the next one, at the snapshot of the lookup. */
  oldest_running: string;
  next_id: string;
  /** The last number that an upload drew, read after that snapshot. */
  last_upload: string;
  /** The index of the queue, from 1. */
  queue: number;
  /** Its first coin in stock; null if there is none. */
  upload_order: string | null;
}

function startsOf(queues: readonly Queue[]): { compile(): CompiledQuery<StartRow> } {
  const values = [
    uuids(queues, ({ userId }) => userId),
    smallints(queues, ({ category }) => category),
    bigints(queues, ({ start }) => start),
    uuids(queues, ({ deviceId }) => deviceId),
  ];
  return { compile: () => CompiledQuery.raw(TEXT, values) as CompiledQuery<StartRow> };
}

const TEXT = `
SELECT ${CURRENT_INCARNATION} AS incarnation,
  pg_snapshot_xmin(pg_current_snapshot())::text AS oldest_running, pg_snapshot_xmax(pg_current_snapshot())::text AS next_id,
  (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM coin_upload_batch)::text AS last_upload,
  q.queue::int, s.upload_order::text
FROM unnest((SELECT $1::uuid[]), (SELECT $2::smallint[]), (SELECT $3::bigint[]), (SELECT $4::uuid[]))
  WITH ORDINALITY AS q (user_id, category, start, device_id, queue)
LEFT JOIN LATERAL (
  SELECT s.upload_order
  FROM coin_stock s
  WHERE s.user_id = q.user_id AND s.device_id = q.device_id AND s.coin_category = q.category
    AND s.upload_order >= q.start AND s.expire_time > now() + interval '${HAND_OUT_MARGIN_S} seconds'
  ORDER BY s.upload_order
  LIMIT 1
) s ON true`;

function nameOf(userId: string, deviceId: string, category: CoinCategory): string {
  return `${stockOf({ userId, deviceId })} ${category}`;
}

function min(one: bigint, other: bigint): bigint {
  return one < other ? one : other;
}
