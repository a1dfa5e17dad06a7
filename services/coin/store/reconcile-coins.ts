import { sql } from 'kysely';
import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import { CoinStateResult_State as State } from '../../../gen/aqm/coin/v1/coin_service';
import { HAND_OUT_MARGIN_S, type UserDevice } from '../coin';
import { run } from '../database/connection';
import type { Database } from '../database/pool';
import { isRolledBack } from '../database/sqlstate';
import type { Deadline } from '../deadline';
import { EpochChangedError, InvalidFieldError, OverloadedError } from '../errors';
import { type FencingToken, type Guard, isVerified, UNVERIFIED } from '../fence/guard';
import { traceRecord } from '../telemetry/tracing';

/** The ids, in lower case, that the vault of one device holds of one category, or a part of them. */
export interface VaultListing {
  readonly coinCategory: CoinCategory;
  readonly keyIds: readonly string[];
  /** True if the list is complete. Coins in stock that it lacks are then retired. */
  readonly complete: boolean;
  /** Set when `complete`: only coins that were uploaded before this time are retired. */
  readonly listedAt: Date | undefined;
}

export interface ReconcileAnswer {
  /** One state per id, in the order of the ids. */
  readonly states: State[];
  readonly retiredCount: number;
  readonly epoch: string;
}

/** The number of times that the statement is run after deadlocks. */
const MAX_ATTEMPTS = 8;

/**
 * Returns the states of the listed ids, and retires the coins of the device that a complete list
 * lacks, in one statement.
 * @param epoch the epoch that the caller knows; empty: not checked
 * @throws EpochChangedError, FencedError, InvalidFieldError when `listedAt` is in the future;
 *   nothing was changed then
 */
export async function reconcileCoins(
  db: Database,
  guard: Guard,
  owner: UserDevice,
  listing: VaultListing,
  epoch: string,
  deadline: Deadline,
): Promise<ReconcileAnswer> {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    try {
      const rows = await guard.runSpending((token) =>
        reconcileOnce(db, guard, token, { owner, listing, epoch, deadline }),
      );
      return toAnswer(listing, epoch, rows);
    } catch (error) {
      if (!isRolledBack(error)) throw error;
    }
  }
  throw new OverloadedError();
}

interface Request {
  readonly owner: UserDevice;
  readonly listing: VaultListing;
  readonly epoch: string;
  readonly deadline: Deadline;
}

async function reconcileOnce(
  db: Database,
  guard: Guard,
  token: FencingToken,
  { owner, listing, epoch, deadline }: Request,
): Promise<ReconcileRow[] | typeof UNVERIFIED> {
  const rows = await run(db, reconcile(owner, listing, epoch, token.incarnation), deadline);
  const [first] = rows;
  if (first?.verified === false) return UNVERIFIED;
  // If a retired coin returned with an older copy of the database, it could be handed out, although
  // no device can use it any more. One commit retired all of them, so one record is enough; more
  // would overwrite records of other statements.
  if (first?.retired_key && first.retired_end) {
    const { coinCategory } = listing;
    const retired = { userId: owner.userId, keyId: first.retired_key, coinCategory, expireTime: first.retired_end };
    await traceRecord(1, undefined, () => guard.recordHandedOut(token, [retired]));
  }
  return rows;
}

const STATES = {
  in_stock: State.STATE_IN_STOCK,
  spent: State.STATE_SPENT,
  expired: State.STATE_EXPIRED,
  unknown: State.STATE_UNKNOWN,
} as const;

/** The names of the states in traces. */
export const STATE_NAMES: ReadonlyMap<State, string> = new Map(
  Object.entries(STATES).map(([name, state]) => [state, name]),
);

interface ReconcileRow {
  epoch: string;
  server_time: Date;
  /** False if the incarnation was another one. Nothing was retired then. */
  verified: boolean;
  in_future: boolean | null;
  retired: number;
  /** One of the retired coins, if any. */
  retired_key: string | null;
  retired_end: Date | null;
  /** The index of the id, from 1; null in the only row of an empty list. */
  position: number | null;
  state: keyof typeof STATES | null;
}

function toAnswer(listing: VaultListing, epoch: string, rows: readonly ReconcileRow[]): ReconcileAnswer {
  const [first] = rows;
  if (!first) throw new Error('The database has no epoch. Run the migrations.');
  if (epoch !== '' && first.epoch !== epoch) throw new EpochChangedError(first.epoch);
  if (first.in_future === true) {
    const description = `must not be later than the server's ${first.server_time.toISOString()}`;
    throw new InvalidFieldError([{ field: 'listed_at', description }]);
  }
  const states: State[] = listing.keyIds.map(() => State.STATE_UNSPECIFIED);
  for (const row of rows) {
    if (row.position !== null && row.state !== null) states[row.position - 1] = STATES[row.state];
  }
  return { states, retiredCount: first.retired, epoch: first.epoch };
}

/**
 * Builds the statement.
 *
 * - upload_time and listed_at both come from the database's clock. upload_time is the start of the
 *   upload's transaction; listed_at is a server_time that was returned before the vault was read. A
 *   private half is in its vault before the upload is sent. So the list contains every coin that
 *   was uploaded before listed_at, unless its private half is lost. An upload that began earlier
 *   and commits after this statement's snapshot is not visible, and not retired. (The contract
 *   rounds server_time down to the millisecond: coins of the rest of that millisecond are not
 *   retired either.)
 * - Retiring skips no locked coin, but waits for the claim that holds it. If the claim commits, the
 *   coin is spent anyway; if it rolls back, the coin is retired. Coins are locked in the order in
 *   which claims lock them.
 * - A coin too close to its expiry cannot be fetched, and is left to the purge.
 * - No fetch refers to a retired coin. So its key bytes are removed at once, and the index
 *   coin_forgettable finds the bare id when its time is over.
 */
function reconcile(
  { userId, deviceId }: UserDevice,
  { coinCategory, keyIds, complete, listedAt }: VaultListing,
  epoch: string,
  incarnation: string,
) {
  const handedOutUntil = sql`now() + make_interval(secs => ${HAND_OUT_MARGIN_S})`;
  return sql<ReconcileRow>`
WITH life AS MATERIALIZED (
  SELECT epoch, now() AS server_time, ${isVerified(incarnation)} AS verified, ${listedAt ?? null}::timestamptz > now() AS in_future,
    ${epoch}::text IN ('', epoch::text) AND ${listedAt ?? null}::timestamptz <= now() AS may_retire
  FROM database_life
),
asked AS MATERIALIZED (
  SELECT * FROM unnest(${keyIds}::uuid[]) WITH ORDINALITY AS a (key_id, position)
),
unlisted AS MATERIALIZED (
  SELECT s.upload_order
  FROM coin_stock s
  WHERE s.user_id = ${userId}::uuid AND s.device_id = ${deviceId}::uuid
    AND s.coin_category = ${coinCategory}::smallint AND s.upload_time < ${listedAt ?? null}::timestamptz AND s.expire_time > ${handedOutUntil}
    AND s.key_id NOT IN (SELECT key_id FROM asked)
    AND ${complete}::boolean AND (SELECT verified AND may_retire FROM life)
  ORDER BY s.upload_order
  FOR UPDATE OF s
),
retired AS (
  DELETE FROM coin_stock s
  USING unlisted u
  WHERE s.user_id = ${userId}::uuid AND s.device_id = ${deviceId}::uuid
    AND s.coin_category = ${coinCategory}::smallint AND s.upload_order = u.upload_order
  RETURNING s.key_id, s.expire_time
),
blanked AS (
  UPDATE coin c
  SET public_key = NULL, signature = NULL
  FROM retired r
  WHERE c.user_id = ${userId}::uuid AND c.key_id = r.key_id
)
SELECT life.epoch, life.server_time, life.verified, life.in_future, gone.*, a.position::int,
  CASE
    WHEN a.key_id IS NULL THEN NULL
    WHEN c.user_id IS NULL THEN 'unknown'
    WHEN s.user_id IS NULL THEN 'spent'
    WHEN s.expire_time <= ${handedOutUntil} THEN 'expired'
    ELSE 'in_stock'
  END AS state
FROM life
CROSS JOIN (
  SELECT count(*)::int AS retired, (array_agg(key_id))[1] AS retired_key, (array_agg(expire_time))[1] AS retired_end
  FROM retired
) gone
LEFT JOIN asked a ON true
LEFT JOIN LATERAL (
  SELECT c.user_id, c.device_id, c.coin_category, c.upload_order
  FROM coin c
  WHERE c.user_id = ${userId}::uuid AND c.key_id = a.key_id
  OFFSET 0
) c ON true
LEFT JOIN LATERAL (
  SELECT s.user_id, s.expire_time
  FROM coin_stock s
  WHERE s.user_id = ${userId}::uuid AND s.device_id = c.device_id AND s.coin_category = c.coin_category
    AND s.upload_order = c.upload_order
  OFFSET 0
) s ON true`;
}
