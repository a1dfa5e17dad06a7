import { type RawBuilder, sql } from 'kysely';
import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import { UNNAMED_DEVICE } from '../coin';
import { run } from '../database/connection';
import type { Database } from '../database/pool';
import { userHashOf } from '../database/user-hash';
import type { Deadline } from '../deadline';
import { overFetches } from './fetch-pages';

/** One device of the user. */
export interface ExportedDevice {
  /** Null: the unnamed device. */
  readonly deviceId: string | null;
  /** Null: the device was removed before its first upload. */
  readonly lastUploadTime: Date | null;
  /** Null: the device was not removed. */
  readonly removeTime: Date | null;
}

/** One coin of the user. */
export interface ExportedCoin {
  /** Null: the unnamed device. */
  readonly deviceId: string | null;
  readonly keyId: string;
  readonly coinCategory: CoinCategory;
  readonly expireTime: Date;
  /** `spent`: handed out or retired. */
  readonly state: 'in stock' | 'spent';
  /** The time of the upload; null: the coin is not in stock any more. */
  readonly uploadTime: Date | null;
  /** Null after the hard delete. */
  readonly publicKey: Buffer | null;
  readonly signature: Buffer | null;
}

/** One fetch that is remembered for repeats. */
export interface ExportedFetch {
  readonly fetchTime: Date;
  readonly requestId: string;
  /** The device whose coins were fetched, where it was one and not the unnamed one. */
  readonly deviceId: string | null;
  /** The devices of the answer, the unnamed one as null; null: the fetch was from one device. */
  readonly deviceIds: readonly (string | null)[] | null;
  readonly coinCategory: CoinCategory;
  readonly count: number;
  readonly allowLowerCategories: boolean;
  readonly keyIds: readonly string[];
}

/** All that the database holds of one user. */
export interface UserExport {
  /** The time at which the user was deleted; null: the user was not, or that was forgotten. */
  readonly deleteTime: Date | null;
  readonly devices: readonly ExportedDevice[];
  readonly coins: readonly ExportedCoin[];
  /** The fetches of the user's coins by others, without the names of the requesters. */
  readonly fetchesOfUser: readonly ExportedFetch[];
  /** The fetches by the user, with the users whose coins they were, without key bytes. */
  readonly fetchesByUser: readonly (ExportedFetch & { readonly targetUserId: string })[];
}

/** Reads all that the database holds of one user. Changes nothing. */
export async function exportUser(db: Database, userId: string, deadline: Deadline): Promise<UserExport> {
  const [deletion] = await run(
    db,
    sql<{ deleteTime: Date }>`
SELECT delete_time AS "deleteTime" FROM database_deletion WHERE user_hash = ${userHashOf(sql`${userId}::uuid`)}`,
    deadline,
  );
  const named = (column: RawBuilder<unknown>) => sql`nullif(${column}, ${UNNAMED_DEVICE}::uuid)`;
  const devices = await run(
    db,
    sql<ExportedDevice>`
SELECT ${named(sql`device_id`)} AS "deviceId", last_upload_time AS "lastUploadTime", remove_time AS "removeTime"
FROM coin_device
WHERE user_id = ${userId}::uuid
ORDER BY device_id`,
    deadline,
  );
  const coins = await run(
    db,
    sql<ExportedCoin>`
SELECT ${named(sql`c.device_id`)} AS "deviceId", c.key_id AS "keyId", c.coin_category AS "coinCategory", c.expire_time AS "expireTime",
  CASE WHEN s.user_id IS NULL THEN 'spent' ELSE 'in stock' END AS state, s.upload_time AS "uploadTime",
  c.public_key AS "publicKey", c.signature
FROM coin c
LEFT JOIN coin_stock s ON s.user_id = ${userId}::uuid AND s.device_id = c.device_id
  AND s.coin_category = c.coin_category AND s.upload_order = c.upload_order
WHERE c.user_id = ${userId}::uuid
ORDER BY c.device_id, c.coin_category, c.upload_order, c.key_id`,
    deadline,
  );
  const fetch = sql`f.fetch_time AS "fetchTime", f.request_id AS "requestId",
  ${named(sql`f.device_id`)} AS "deviceId", array_replace(f.device_ids, ${UNNAMED_DEVICE}::uuid, NULL) AS "deviceIds",
  f.coin_category AS "coinCategory",
  f.coin_count AS count, f.allow_lower_categories AS "allowLowerCategories", f.key_ids AS "keyIds"`;
  const fetchesOfUser = await run(
    db,
    sql<ExportedFetch>`SELECT ${fetch} FROM coin_fetch f WHERE f.user_id = ${userId}::uuid ORDER BY f.fetch_time`,
    deadline,
  );
  const fetchesByUser: UserExport['fetchesByUser'][number][] = [];
  const byUser = (part: RawBuilder<boolean>) => sql<ExportedFetch & { targetUserId: string }>`
SELECT f.user_id AS "targetUserId", ${fetch} FROM coin_fetch f WHERE f.requester_id = ${userId}::uuid AND ${part}`;
  for await (const part of overFetches(db, deadline, byUser)) fetchesByUser.push(...part);
  return { deleteTime: deletion?.deleteTime ?? null, devices, coins, fetchesOfUser, fetchesByUser };
}
