import { sql } from 'kysely';
import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import { LIMITS, type UserDevice } from '../coin';
import type { Database } from '../database/pool';
import { isRolledBack } from '../database/sqlstate';
import { inTransaction } from '../database/transaction';
import { userHashOf } from '../database/user-hash';
import type { Deadline } from '../deadline';
import { OverloadedError, TooManyDevicesError, UserDeletedError } from '../errors';
import { type Guard, isVerified, type SpentCoin, UNVERIFIED } from '../fence/guard';
import { removalRecord } from '../fence/ring-file';
import { traceRecord } from '../telemetry/tracing';
import { lockUser } from './user-lock';

/** The number of times that the transaction is run after deadlocks. */
const MAX_ATTEMPTS = 8;

/**
 * Removes a device: makes all of its stock spent, and refuses its uploads from then on. Safe to
 * repeat. A device that is not known is removed as well, because its first upload may be on its way,
 * unless the user has as many devices, removed ones included, as are remembered.
 *
 * The transaction holds the lock that an upload holds, so every earlier upload is committed, and its
 * coins are retired too; every later one is refused. Like a complete reconcile, it waits for the
 * claims that hold some of the stock. Once it is committed, no claim finds a coin of the device.
 * Repeats of earlier fetches still get their coins.
 *
 * @returns the number of coins that were retired, by category
 * @throws UserDeletedError, TooManyDevicesError, FencedError, OverloadedError, DatabaseUnavailableError
 */
export async function removeDevice(
  db: Database,
  guard: Guard,
  device: UserDevice,
  deadline: Deadline,
): Promise<ReadonlyMap<CoinCategory, number>> {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    try {
      const rows = await guard.runSpending(async (token) => {
        const found = await inTransaction(db, deadline, async (connection) => {
          await connection.execute(lockUser(device.userId).compile(db));
          return connection.execute(remove(device, token.incarnation).compile(db));
        });
        const [first] = found;
        if (!first?.verified) return UNVERIFIED;
        // The removal is recorded last: it is the record by which a database is verified, also where the
        // device had no coins. One of the coins stands for all, because one commit retired them.
        const records: SpentCoin[] = found.flatMap(({ coin_category, key_id, expire_time }) =>
          coin_category === null || key_id === null || expire_time === null
            ? []
            : [{ userId: device.userId, keyId: key_id, coinCategory: coin_category, expireTime: expire_time }],
        );
        if (first.remove_time) records.push(removalRecord(device, first.remove_time));
        await traceRecord(records.length, undefined, () => guard.recordHandedOut(token, records));
        return found;
      });
      if (rows[0]?.deleted) throw new UserDeletedError();
      if (rows[0]?.too_many) throw new TooManyDevicesError(LIMITS.devicesPerUser, LIMITS.rememberedDevices);
      return new Map(
        rows.flatMap(({ coin_category, retired }) => (coin_category === null ? [] : [[coin_category, retired ?? 0]])),
      );
    } catch (error) {
      if (!isRolledBack(error)) throw error;
    }
  }
  throw new OverloadedError();
}

interface RemovalRow {
  /** False if the incarnation was another one. Nothing was changed then. */
  verified: boolean;
  /** True if the user was deleted. Nothing was changed then. */
  deleted: boolean;
  /** True if the device is not known, and the user has as many as are remembered. Nothing was changed then. */
  too_many: boolean;
  /** The time of the removal, which a repeat keeps; null if nothing was changed. */
  remove_time: Date | null;
  /** A category of which coins were retired; null in the only row where there were none. */
  coin_category: CoinCategory | null;
  retired: number | null;
  /** One of the retired coins of the category. */
  key_id: string | null;
  expire_time: Date | null;
}

/**
 * Builds the statement. Coins are locked in the order in which claims lock them. No fetch refers to a
 * retired coin, so its key bytes are removed at once.
 */
function remove({ userId, deviceId }: UserDevice, incarnation: string) {
  return sql<RemovalRow>`
WITH guard AS MATERIALIZED (
  SELECT verified, deleted, too_many, verified AND NOT deleted AND NOT too_many AS may_remove
  FROM (
    SELECT ${isVerified(incarnation)} AS verified,
      EXISTS (SELECT FROM database_deletion WHERE user_hash = ${userHashOf(sql`${userId}::uuid`)}) AS deleted,
      NOT EXISTS (
        SELECT FROM coin_device WHERE user_id = ${userId}::uuid AND device_id = ${deviceId}::uuid
      ) AND ${LIMITS.rememberedDevices}::int <= (
        SELECT count(*) FROM coin_device WHERE user_id = ${userId}::uuid
      ) AS too_many
  ) g
),
removed AS (
  INSERT INTO coin_device AS d (user_id, device_id, remove_time)
  SELECT ${userId}::uuid, ${deviceId}::uuid, now() FROM guard WHERE may_remove
  ON CONFLICT (user_id, device_id) DO UPDATE SET remove_time = coalesce(d.remove_time, excluded.remove_time)
  RETURNING remove_time
),
held AS MATERIALIZED (
  SELECT s.coin_category, s.upload_order
  FROM coin_stock s
  WHERE s.user_id = ${userId}::uuid AND s.device_id = ${deviceId}::uuid AND (SELECT may_remove FROM guard)
  ORDER BY s.coin_category, s.upload_order
  FOR UPDATE OF s
),
retired AS (
  DELETE FROM coin_stock s
  USING held h
  WHERE s.user_id = ${userId}::uuid AND s.device_id = ${deviceId}::uuid AND s.coin_category = h.coin_category
    AND s.upload_order = h.upload_order
  RETURNING s.key_id, s.coin_category, s.expire_time
),
blanked AS (
  UPDATE coin c
  SET public_key = NULL, signature = NULL
  FROM retired r
  WHERE c.user_id = ${userId}::uuid AND c.key_id = r.key_id
)
SELECT guard.verified, guard.deleted, guard.too_many, removed.remove_time, gone.*
FROM guard
LEFT JOIN removed ON true
LEFT JOIN (
  SELECT coin_category, count(*)::int AS retired, (array_agg(key_id))[1] AS key_id,
    (array_agg(expire_time))[1] AS expire_time
  FROM retired
  GROUP BY coin_category
) gone ON true`;
}
