import { type RawBuilder, sql } from 'kysely';
import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import { run } from '../database/connection';
import type { Database } from '../database/pool';
import { userHashOf } from '../database/user-hash';
import type { Deadline } from '../deadline';
import { overFetches } from './fetch-pages';

/** One coin of the user. */
export interface ExportedCoin {
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
  readonly coinCategory: CoinCategory;
  readonly count: number;
  readonly allowLowerCategories: boolean;
  readonly keyIds: readonly string[];
}

/** All that the database holds of one user. */
export interface UserExport {
  /** The time at which the user was deleted; null: the user was not, or that was forgotten. */
  readonly deleteTime: Date | null;
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
  const coins = await run(
    db,
    sql<ExportedCoin>`
SELECT c.key_id AS "keyId", c.coin_category AS "coinCategory", c.expire_time AS "expireTime",
  CASE WHEN s.user_id IS NULL THEN 'spent' ELSE 'in stock' END AS state, s.upload_time AS "uploadTime",
  c.public_key AS "publicKey", c.signature
FROM coin c
LEFT JOIN coin_stock s ON s.user_id = ${userId}::uuid AND s.coin_category = c.coin_category AND s.upload_order = c.upload_order
WHERE c.user_id = ${userId}::uuid
ORDER BY c.coin_category, c.upload_order, c.key_id`,
    deadline,
  );
  const fetch = sql`f.fetch_time AS "fetchTime", f.request_id AS "requestId", f.coin_category AS "coinCategory",
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
  return { deleteTime: deletion?.deleteTime ?? null, coins, fetchesOfUser, fetchesByUser };
}
