import { sql } from 'kysely';
import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import { CoinUploadResult_Outcome as Outcome } from '../../../gen/aqm/coin/v1/coin_service';
import { CLOCK_SKEW_S, COIN_LIFETIME_S, HAND_OUT_MARGIN_S, LIMITS, type StoredCoin, type UserDevice } from '../coin';
import type { Database } from '../database/pool';
import { isRolledBack } from '../database/sqlstate';
import { inTransaction } from '../database/transaction';
import { userHashOf } from '../database/user-hash';
import type { Deadline } from '../deadline';
import {
  DeviceRemovedError,
  EpochChangedError,
  InvalidFieldError,
  OverloadedError,
  TooManyDevicesError,
  UserDeletedError,
} from '../errors';
import { type Guard, isVerified, UNVERIFIED } from '../fence/guard';
import { lockUser } from './user-lock';

/** A coin as its owner uploads it. */
export interface UploadedCoin extends Omit<StoredCoin, 'deviceId' | 'expireTime'> {
  /** Undefined: the coin lifetime from now, by the database's clock. */
  readonly expireTime: Date | undefined;
}

export interface UploadAnswer {
  /** One outcome per coin, in the order of the coins. */
  readonly outcomes: Outcome[];
  /** The device's stock after the upload, by category. A category without coins may be missing. */
  readonly available: ReadonlyMap<CoinCategory, number>;
  readonly epoch: string;
}

export interface UploadOptions {
  /** The largest number of coins of one category that a device may have in stock. */
  readonly stockLimit: number;
  /** The largest number of devices of one user, without removed ones. */
  readonly maxDevices: number;
  readonly deadline: Deadline;
}

/**
 * The number of times that a batch is tried while it loses races against uploads of the same ids.
 */
const MAX_ATTEMPTS = 8;

/**
 * Adds coins to the stock of a device, which is known from then on. An id is accepted only once for as long as it is remembered. Runs
 * one statement for the batch, and another one only after a lost race. The statement runs under the
 * lock of the user and sees what the uploads before it stored, so that no number of simultaneous
 * uploads exceeds the stock limit or the number of devices, and none outlives the deletion of the
 * user or the removal of the device.
 * @param epoch the epoch that the caller knows; empty: not checked
 * @throws InvalidFieldError if a coin would expire after the coin lifetime, by the database's clock; nothing was
 *   stored then. EpochChangedError, UserDeletedError, DeviceRemovedError, TooManyDevicesError,
 *   DatabaseUnavailableError, FencedError, OverloadedError
 */
export async function uploadCoins(
  db: Database,
  guard: Guard,
  owner: UserDevice,
  coins: readonly UploadedCoin[],
  epoch: string,
  options: UploadOptions,
): Promise<UploadAnswer> {
  const outcomes: Outcome[] = coins.map(() => Outcome.OUTCOME_UNSPECIFIED);
  let pending = coins.map((_, index) => index);
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const batch = pending.flatMap((index) => coins[index] ?? []);
    let rows: UploadRow[];
    try {
      rows = await guard.run(async ({ incarnation }) => {
        const found = await inTransaction(db, options.deadline, async (connection) => {
          await connection.execute(lockUser(owner.userId).compile(db));
          return connection.execute(upload(owner, batch, epoch, options, incarnation).compile(db));
        });
        return found[0]?.verified === false ? UNVERIFIED : found;
      });
    } catch (error) {
      if (isRolledBack(error)) continue;
      throw error;
    }
    if (rows[0]?.deleted) throw new UserDeletedError();
    if (rows[0]?.removed) throw new DeviceRemovedError();
    refuseTooLate(coins, rows);
    const available = new Map<CoinCategory, number>();
    let current = '';
    for (const row of rows) {
      current = row.epoch;
      if (row.coin_category !== null) available.set(row.coin_category, row.available ?? 0);
      const index = row.position === null ? undefined : pending[row.position - 1];
      if (index !== undefined && row.outcome !== null) outcomes[index] = OUTCOMES[row.outcome];
    }
    if (epoch !== '' && current !== epoch.toLowerCase()) throw new EpochChangedError(current);
    if (rows[0]?.too_many) throw new TooManyDevicesError(options.maxDevices, LIMITS.rememberedDevices);
    pending = pending.filter((index) => outcomes[index] === Outcome.OUTCOME_UNSPECIFIED);
    if (pending.length === 0) return { outcomes, available, epoch: current };
  }
  throw new OverloadedError();
}

/** Throws if the statement stored nothing because of coins that expire too late. */
function refuseTooLate(coins: readonly UploadedCoin[], [first]: readonly UploadRow[]): void {
  if (!first) return;
  const { latest } = first;
  const description = `must not be later than ${latest.toISOString()} (23 days from now)`;
  const violations = coins.flatMap(({ expireTime }, index) =>
    expireTime && expireTime > latest ? { field: `coins[${index}].expire_time`, description } : [],
  );
  if (violations.length > 0) throw new InvalidFieldError(violations);
}

const OUTCOMES = {
  inserted: Outcome.OUTCOME_INSERTED,
  already_present: Outcome.OUTCOME_ALREADY_PRESENT,
  conflict: Outcome.OUTCOME_CONFLICT,
  spent: Outcome.OUTCOME_SPENT,
  expired: Outcome.OUTCOME_EXPIRED,
  over_stock_limit: Outcome.OUTCOME_OVER_STOCK_LIMIT,
} as const;

interface UploadRow {
  epoch: string;
  /** False if the incarnation was another one. Nothing was read or stored then. */
  verified: boolean;
  /** True if the user was deleted. Nothing was stored then. */
  deleted: boolean;
  /** True if the device was removed. Nothing was stored then. */
  removed: boolean;
  /** True if the device is a new one, and the user has as many as allowed. Nothing was stored then. */
  too_many: boolean;
  /** The latest expire_time. Nothing was stored if a coin had a later one. */
  latest: Date;
  /** The index of the coin in the batch, from 1; null on the rows about the stock. */
  position: number | null;
  /**
   * The outcome for the coin; null: another upload of the same id won, and its coin is not visible
   * yet. Try again.
   */
  outcome: keyof typeof OUTCOMES | null;
  /** The category whose stock `available` counts; null on the rows about one coin. */
  coin_category: CoinCategory | null;
  available: number | null;
}

/**
 * Builds the statement. It returns one row per coin, and one per category in stock.
 *
 * - Every id that is not forgotten has a row in coin, so the primary key decides all races,
 *   including those against the hard delete. Rows are inserted in the order of key_id, so that two
 *   uploads of the same ids cannot deadlock. The order of handing out is upload_order: batch number
 *   * 128 + position in the batch.
 * - The upload has a transaction id before it draws its number, so that others can find out whether
 *   it is finished (claim/queue-starts.ts). Its rows in coin_stock are written in the order in which
 *   claims read them, so that neighbours in the queue are in the same blocks.
 * - An id that appears again in one batch is compared with its first appearance.
 * - The row of the device is written with every upload that may store. Removed devices have a row
 *   too, and count as no device.
 * - The stock limit counts rows. Coins that are past handing out would fill it, and every fetch
 *   would step over them, so the upload removes them as the purge does, except those that are
 *   uploaded again, which keep their answer.
 */
function upload(
  { userId, deviceId }: UserDevice,
  coins: readonly UploadedCoin[],
  epoch: string,
  { stockLimit, maxDevices }: UploadOptions,
  incarnation: string,
) {
  return sql<UploadRow>`
WITH life AS MATERIALIZED (
  SELECT epoch, ${epoch.toLowerCase()}::text IN ('', epoch::text) AS current, ${isVerified(incarnation)} AS verified,
    now() + make_interval(secs => ${COIN_LIFETIME_S + CLOCK_SKEW_S}) AS latest,
    EXISTS (SELECT FROM database_deletion WHERE user_hash = ${userHashOf(sql`${userId}::uuid`)}) AS deleted
  FROM database_life
),
device AS MATERIALIZED (
  SELECT
    EXISTS (
      SELECT FROM coin_device
      WHERE user_id = ${userId}::uuid AND device_id = ${deviceId}::uuid AND remove_time IS NOT NULL
    ) AS removed,
    NOT EXISTS (
      SELECT FROM coin_device WHERE user_id = ${userId}::uuid AND device_id = ${deviceId}::uuid
    ) AND (
      ${maxDevices}::int <= (
        SELECT count(*) FROM coin_device WHERE user_id = ${userId}::uuid AND remove_time IS NULL
      )
      OR ${LIMITS.rememberedDevices}::int <= (SELECT count(*) FROM coin_device WHERE user_id = ${userId}::uuid)
    ) AS too_many
),
given AS MATERIALIZED (
  SELECT g.key_id, g.coin_category, g.public_key, g.signature, g.position,
    coalesce(g.expire_time, now() + make_interval(secs => ${COIN_LIFETIME_S})) AS expire_time,
    row_number() OVER (PARTITION BY key_id ORDER BY position) AS appearance
  FROM unnest(
    ${coins.map((coin) => coin.keyId)}::uuid[],
    ${coins.map((coin) => coin.coinCategory)}::smallint[],
    ${coins.map((coin) => coin.publicKey)}::bytea[],
    ${coins.map((coin) => coin.signature)}::bytea[],
    ${coins.map((coin) => coin.expireTime)}::timestamptz[]
  ) WITH ORDINALITY AS g (key_id, coin_category, public_key, signature, expire_time, position)
  WHERE (SELECT verified FROM life)
),
allowed AS MATERIALIZED (
  SELECT current AND verified AND NOT deleted AND NOT removed AND NOT too_many
    AND (SELECT max(expire_time) FROM given) <= latest AS may_store
  FROM life, device
),
listed AS (
  INSERT INTO coin_device (user_id, device_id, last_upload_time)
  SELECT ${userId}::uuid, ${deviceId}::uuid, now() FROM allowed WHERE may_store
  ON CONFLICT (user_id, device_id) DO UPDATE SET last_upload_time = excluded.last_upload_time
),
known AS MATERIALIZED (
  SELECT g.position,
    CASE
      WHEN s.user_id IS NULL THEN 'spent'
      WHEN (c.device_id, c.coin_category, c.public_key, c.signature)
        IS DISTINCT FROM (${deviceId}::uuid, g.coin_category, g.public_key, g.signature) THEN 'conflict'
      ELSE 'already_present'
    END AS outcome
  FROM given g
  CROSS JOIN LATERAL (
    SELECT * FROM coin c WHERE c.user_id = ${userId}::uuid AND c.key_id = g.key_id OFFSET 0
  ) c
  LEFT JOIN LATERAL (
    SELECT s.user_id
    FROM coin_stock s
    WHERE s.user_id = ${userId}::uuid AND s.device_id = c.device_id AND s.coin_category = c.coin_category
      AND s.upload_order = c.upload_order
    OFFSET 0
  ) s ON true
),
past AS MATERIALIZED (
  SELECT s.coin_category, s.upload_order
  FROM coin_stock s
  WHERE s.user_id = ${userId}::uuid AND s.device_id = ${deviceId}::uuid
    AND s.expire_time <= now() + make_interval(secs => ${HAND_OUT_MARGIN_S})
    AND s.key_id NOT IN (SELECT key_id FROM given) AND (SELECT may_store FROM allowed)
  FOR UPDATE OF s SKIP LOCKED
),
purged AS (
  DELETE FROM coin_stock s
  USING past p
  WHERE s.user_id = ${userId}::uuid AND s.device_id = ${deviceId}::uuid AND s.coin_category = p.coin_category
    AND s.upload_order = p.upload_order
  RETURNING s.key_id
),
erased AS (
  DELETE FROM coin c USING purged p WHERE c.user_id = ${userId}::uuid AND c.key_id = p.key_id
),
stock AS MATERIALIZED (
  SELECT coin_category, count(*) - (SELECT count(*) FROM past p WHERE p.coin_category = s.coin_category) AS held,
    count(*) FILTER (WHERE expire_time > now() + make_interval(secs => ${HAND_OUT_MARGIN_S})) AS available
  FROM coin_stock s
  WHERE user_id = ${userId}::uuid AND device_id = ${deviceId}::uuid
  GROUP BY coin_category
),
fresh AS MATERIALIZED (
  SELECT g.*,
    CASE
      WHEN g.expire_time <= now() + make_interval(secs => ${HAND_OUT_MARGIN_S}) THEN 'expired'
      WHEN coalesce(s.held, 0) + count(*) FILTER (
        WHERE g.expire_time > now() + make_interval(secs => ${HAND_OUT_MARGIN_S})
      ) OVER (PARTITION BY g.coin_category ORDER BY g.position) > ${stockLimit}::int THEN 'over_stock_limit'
      ELSE 'inserted'
    END AS outcome
  FROM given g
  LEFT JOIN stock s USING (coin_category)
  WHERE g.appearance = 1 AND NOT EXISTS (SELECT FROM known k WHERE k.position = g.position)
),
batch AS MATERIALIZED (
  SELECT CASE WHEN pg_current_xact_id() IS NOT NULL THEN nextval('coin_upload_batch') END AS number
),
inserted AS (
  INSERT INTO coin (user_id, device_id, key_id, upload_order, expire_time, coin_category, public_key, signature)
  SELECT ${userId}::uuid, ${deviceId}::uuid, f.key_id, b.number * 128 + f.position, f.expire_time, f.coin_category,
    f.public_key, f.signature
  FROM fresh f, batch b
  WHERE f.outcome = 'inserted' AND (SELECT may_store FROM allowed)
  ORDER BY f.key_id
  ON CONFLICT (user_id, key_id) DO NOTHING
  RETURNING key_id, coin_category, upload_order, expire_time
),
stocked AS (
  INSERT INTO coin_stock (user_id, device_id, coin_category, upload_order, key_id, expire_time)
  SELECT ${userId}::uuid, ${deviceId}::uuid, coin_category, upload_order, key_id, expire_time
  FROM inserted
  ORDER BY upload_order
),
judged AS MATERIALIZED (
  SELECT f.key_id, f.coin_category, f.public_key, f.signature,
    CASE WHEN f.outcome = 'inserted' AND i.key_id IS NULL THEN NULL ELSE f.outcome END AS outcome
  FROM fresh f
  LEFT JOIN inserted i USING (key_id)
)
SELECT life.epoch, life.verified, life.deleted, life.latest, device.*, answer.*
FROM life CROSS JOIN device
LEFT JOIN (
  SELECT position::int, outcome, NULL::smallint AS coin_category, NULL::int AS available FROM known
  UNION ALL
  SELECT g.position::int,
    CASE
      WHEN g.appearance = 1 OR j.outcome IS DISTINCT FROM 'inserted' THEN j.outcome
      WHEN (g.coin_category, g.public_key, g.signature) = (j.coin_category, j.public_key, j.signature)
        THEN 'already_present'
      ELSE 'conflict'
    END, NULL, NULL
  FROM given g
  JOIN judged j USING (key_id)
  UNION ALL
  SELECT NULL, NULL, coin_category, (coalesce(s.available, 0) + coalesce(n.added, 0))::int
  FROM stock s
  FULL JOIN (SELECT coin_category, count(*) AS added FROM inserted GROUP BY coin_category) n USING (coin_category)
) answer ON true`;
}
