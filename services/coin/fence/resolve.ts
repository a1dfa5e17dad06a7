import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { run } from '../database/connection';
import type { Database } from '../database/pool';
import { userHashOf } from '../database/user-hash';
import type { DatabaseState } from './database-state';
import { currentIncarnation, type SpentCoin } from './guard';
import type { RemovedDevice } from './ring-file';

/** The running database is not the one for which the operator decided. */
export class DatabaseChangedError extends Error {
  override readonly name = 'DatabaseChangedError';
  constructor() {
    super(
      'The database was replaced, or another command decided, at this moment. Nothing was changed. Check the fence again.',
    );
  }
}

export interface Decision {
  /** accepted: the stock stays. retired: all stock becomes spent, and a new epoch begins. */
  readonly kind: 'accepted' | 'retired';
  /**
   * The coins of the watermark. They were certainly handed out, even where the database does not
   * know it.
   */
  readonly spent: readonly SpentCoin[];
  /** The keyed hashes of the deleted users in the watermark. Their uploads are refused again. */
  readonly deletedUsers?: readonly string[];
  /** The removed devices in the watermark. They are removed again, with their stock. */
  readonly removedDevices?: readonly RemovedDevice[];
  /** Activations that only the watermark contains. */
  readonly lostActivations: readonly string[];
}

/**
 * Carries out an operator's decision in one transaction. It creates a new activation with the
 * present identity, which makes every earlier record void. It waits for statements in progress;
 * later ones find another incarnation.
 * @throws DatabaseChangedError when the database is no longer the one that was verified
 */
export async function resolveFence(
  db: Database,
  { identity, incarnation }: DatabaseState,
  { kind, spent, deletedUsers = [], removedDevices = [], lostActivations }: Decision,
): Promise<{ readonly epoch: string; readonly activation: string }> {
  return db.transaction().execute(async (transaction) => {
    // The role's own timeouts could be too short for a large stock, and for statements in progress.
    await run(
      transaction,
      sql`SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '60s', true)`,
    );
    const [state] = await run(
      transaction,
      transaction
        .selectFrom('database_life')
        .select(['epoch', 'start_time', currentIncarnation.as('incarnation')])
        .forUpdate(),
    );
    if (state?.incarnation !== incarnation) throw new DatabaseChangedError();

    const activation = randomUUID();
    const epoch = kind === 'retired' ? activation : state.epoch;
    const present = {
      system_identifier: identity.systemIdentifier,
      database_oid: identity.databaseOid,
      timeline: identity.timeline,
    };
    // A database that no service has used still had its first epoch, which names the folder of its
    // watermark.
    await run(
      transaction,
      sql`
INSERT INTO database_opening (opening, epoch, system_identifier, database_oid, timeline, kind, open_time)
SELECT epoch, epoch, ${present.system_identifier}::bigint, ${present.database_oid}::bigint, ${present.timeline}::int,
  'first', start_time
FROM database_life WHERE opening IS NULL`,
    );
    await run(
      transaction,
      sql`
INSERT INTO database_opening (opening, kind)
SELECT lost, 'lost' FROM unnest(${lostActivations}::uuid[]) AS lost ON CONFLICT (opening) DO NOTHING`,
    );
    await run(
      transaction,
      transaction
        .insertInto('database_opening')
        .values({ opening: activation, epoch, ...present, kind, bytes_cleared: kind === 'accepted' }),
    );
    // Not an UPDATE: the table's new file makes the new incarnation (guard.ts).
    await sql`TRUNCATE database_life`.execute(transaction);
    await run(
      transaction,
      transaction.insertInto('database_life').values({
        epoch,
        opening: activation,
        start_time: kind === 'retired' ? sql<Date>`now()` : state.start_time,
      }),
    );
    // The rows in coin stay. Without a row in coin_stock they are spent.
    if (kind === 'retired') await sql`TRUNCATE coin_stock`.execute(transaction);
    await run(transaction, spend(spent));
    await run(
      transaction,
      sql`
INSERT INTO database_deletion (user_hash)
SELECT DISTINCT user_hash FROM unnest(${deletedUsers}::uuid[]) AS user_hash ON CONFLICT (user_hash) DO NOTHING`,
    );
    await run(transaction, removeAgain(removedDevices));
    return { epoch, activation };
  });
}

/**
 * Records the removals that the database lacks, and makes the stock of these devices spent. Nothing
 * is recorded of deleted users.
 */
function removeAgain(devices: readonly RemovedDevice[]) {
  return sql`
WITH given AS MATERIALIZED (
  SELECT user_id, device_id, min(remove_time) AS remove_time
  FROM unnest(
    ${devices.map((device) => device.userId)}::uuid[],
    ${devices.map((device) => device.deviceId)}::uuid[],
    ${devices.map((device) => device.removeTime)}::timestamptz[]
  ) AS g (user_id, device_id, remove_time)
  WHERE NOT EXISTS (SELECT FROM database_deletion d WHERE d.user_hash = ${userHashOf(sql`g.user_id`)})
  GROUP BY user_id, device_id
),
removed AS (
  INSERT INTO coin_device AS d (user_id, device_id, remove_time)
  SELECT user_id, device_id, remove_time FROM given
  ON CONFLICT (user_id, device_id) DO UPDATE SET remove_time = coalesce(d.remove_time, excluded.remove_time)
),
taken AS (
  DELETE FROM coin_stock s
  USING given g
  WHERE s.user_id = g.user_id AND s.device_id = g.device_id
  RETURNING s.user_id, s.key_id
)
UPDATE coin c
SET public_key = NULL, signature = NULL
FROM taken t
WHERE c.user_id = t.user_id AND c.key_id = t.key_id`;
}

/** Makes the coins spent, including those that the database never saw. */
function spend(coins: readonly SpentCoin[]) {
  return sql`
WITH given AS MATERIALIZED (
  SELECT DISTINCT ON (user_id, key_id) *
  FROM unnest(
    ${coins.map((coin) => coin.userId)}::uuid[],
    ${coins.map((coin) => coin.keyId)}::uuid[],
    ${coins.map((coin) => coin.coinCategory)}::smallint[],
    ${coins.map((coin) => coin.expireTime)}::timestamptz[]
  ) AS g (user_id, key_id, coin_category, expire_time)
  ORDER BY user_id, key_id
),
taken AS (
  DELETE FROM coin_stock s
  USING given g, coin c
  WHERE c.user_id = g.user_id AND c.key_id = g.key_id
    AND s.user_id = c.user_id AND s.device_id = c.device_id AND s.coin_category = c.coin_category
    AND s.upload_order = c.upload_order
  RETURNING s.user_id, s.key_id
),
cleared AS (
  UPDATE coin c
  SET public_key = NULL, signature = NULL
  FROM taken t
  WHERE c.user_id = t.user_id AND c.key_id = t.key_id
)
INSERT INTO coin (user_id, key_id, upload_order, expire_time, coin_category)
SELECT user_id, key_id, 0, expire_time, coin_category FROM given
ON CONFLICT (user_id, key_id) DO NOTHING`;
}
