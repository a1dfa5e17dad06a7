import { setTimeout } from 'node:timers/promises';
import { type RawBuilder, sql } from 'kysely';
import { run, type Statement } from '../database/connection';
import type { Database } from '../database/pool';
import { isRolledBack } from '../database/sqlstate';
import { inTransaction } from '../database/transaction';
import { userHashOf } from '../database/user-hash';
import type { Deadline } from '../deadline';
import { OverloadedError } from '../errors';
import { type Guard, isVerified, UNVERIFIED } from '../fence/guard';
import { overFetches } from './fetch-pages';
import { lockUser } from './user-lock';

/** The number of rows that one statement deletes. */
const SLICE = 2000;

/** The number of times that a statement is run after deadlocks. */
const MAX_ATTEMPTS = 8;

export interface DeletionOptions {
  /** Called when the deletion is committed, before anything is removed. */
  readonly onDeleted: () => Promise<void>;
  /**
   * The time in milliseconds after which no service begins a fetch by the user any more: each one
   * reads the deletions once a second.
   */
  readonly settleMs: number;
  readonly deadline: Deadline;
}

/**
 * Deletes all that the database holds of one user, in small statements: its coins of every kind and
 * the records of fetches by and of the user, and its devices. Leaves a keyed hash of the user id, by which uploads
 * are refused. It is safe to repeat, and must be repeated after an error.
 *
 * 1. The hash is committed under the lock that an upload holds. Every earlier upload has been
 *    committed then, and every later one is refused.
 * 2. The stock is deleted. That waits for the claims that hold some of it. When none is left, every
 *    claim that got a coin of this user has been committed, so its record is visible to step 3.
 * 3. The records of fetches of the user, and then the coins, are deleted: a repeated fetch that found
 *    its record finds its coins.
 *    No upload adds a device any more, nor does a removal.
 * 4. The records of fetches by the user are deleted, and again once no service begins such a fetch any
 *    more. The key bytes of those coins, which belong to other users, are removed with them, as by the
 *    hard delete. There is no second time if nothing at all was found: an unknown user, or a repeat.
 *
 * @returns the number of coins, records and devices that were deleted
 * @throws FencedError, OverloadedError, DatabaseUnavailableError; DeadlineExceededError or
 *   CancelledError between two statements
 */
export async function deleteUser(
  db: Database,
  guard: Guard,
  userId: string,
  { onDeleted, settleMs, deadline }: DeletionOptions,
): Promise<number> {
  await guard.run(({ incarnation }) =>
    inTransaction(db, deadline, async (connection) => {
      await connection.execute(lockUser(userId).compile(db));
      const [row] = await connection.execute(markDeleted(userId, incarnation).compile(db));
      return row?.verified ? true : UNVERIFIED;
    }),
  );
  const settled = performance.now() + settleMs;
  await onDeleted();
  await untilNone(db, deadline, deleteStock(userId));
  const fetchesOf = await untilNone(db, deadline, deleteFetchesOf(userId));
  const coins = await untilNone(db, deadline, deleteCoins(userId));
  const devices = await untilNone(db, deadline, deleteDevices(userId));
  const deleteBy = async () => {
    let sum = 0;
    for await (const [part] of overFetches(db, deadline, (pages) => deleteFetchesBy(userId, pages))) {
      sum += part?.deleted ?? 0;
    }
    return sum;
  };
  const deleted = coins + devices + fetchesOf + (await deleteBy());
  if (deleted === 0) return 0;
  await setTimeout(Math.max(0, settled - performance.now()));
  return deleted + (await deleteBy());
}

interface Deleted {
  deleted: number;
}

/** Repeats a statement until it deletes nothing more. @returns the sum of what it deleted */
async function untilNone(db: Database, deadline: Deadline, statement: Statement<Deleted>): Promise<number> {
  let sum = 0;
  for (let rollbacks = 0; rollbacks < MAX_ATTEMPTS; ) {
    try {
      const [row] = await run(db, statement, deadline);
      if (!row?.deleted) return sum;
      sum += row.deleted;
    } catch (error) {
      if (!isRolledBack(error)) throw error;
      rollbacks += 1;
    }
  }
  throw new OverloadedError();
}

function markDeleted(userId: string, incarnation: string) {
  return sql<{ verified: boolean }>`
WITH guard AS MATERIALIZED (
  SELECT ${isVerified(incarnation)} AS verified
),
marked AS (
  INSERT INTO database_deletion (user_hash)
  SELECT ${userHashOf(sql`${userId}::uuid`)} FROM guard WHERE verified
  ON CONFLICT (user_hash) DO NOTHING
)
SELECT verified FROM guard`;
}

/** Coins are locked in the order in which claims lock them. */
function deleteStock(userId: string) {
  return sql<Deleted>`
WITH due AS MATERIALIZED (
  SELECT device_id, coin_category, upload_order
  FROM coin_stock
  WHERE user_id = ${userId}::uuid
  ORDER BY device_id, coin_category, upload_order
  LIMIT ${SLICE}
  FOR UPDATE
),
gone AS (
  DELETE FROM coin_stock s
  USING due d
  WHERE s.user_id = ${userId}::uuid AND s.device_id = d.device_id AND s.coin_category = d.coin_category
    AND s.upload_order = d.upload_order
  RETURNING s.key_id
)
SELECT count(*)::int AS deleted FROM gone`;
}

function deleteFetchesOf(userId: string) {
  return sql<Deleted>`
WITH due AS MATERIALIZED (
  SELECT requester_id, request_id
  FROM coin_fetch
  WHERE user_id = ${userId}::uuid
  ORDER BY requester_id, request_id
  LIMIT ${SLICE}
  FOR UPDATE
),
gone AS (
  DELETE FROM coin_fetch f
  USING due d
  WHERE f.user_id = ${userId}::uuid AND f.requester_id = d.requester_id AND f.request_id = d.request_id
  RETURNING f.request_id
)
SELECT count(*)::int AS deleted FROM gone`;
}

function deleteCoins(userId: string) {
  return sql<Deleted>`
WITH due AS MATERIALIZED (
  SELECT key_id
  FROM coin
  WHERE user_id = ${userId}::uuid
  ORDER BY key_id
  LIMIT ${SLICE}
  FOR UPDATE
),
gone AS (
  DELETE FROM coin c
  USING due d
  WHERE c.user_id = ${userId}::uuid AND c.key_id = d.key_id
  RETURNING c.key_id
)
SELECT count(*)::int AS deleted FROM gone`;
}

function deleteDevices(userId: string) {
  return sql<Deleted>`
WITH due AS MATERIALIZED (
  SELECT device_id
  FROM coin_device
  WHERE user_id = ${userId}::uuid
  ORDER BY device_id
  LIMIT ${SLICE}
  FOR UPDATE
),
gone AS (
  DELETE FROM coin_device c
  USING due d
  WHERE c.user_id = ${userId}::uuid AND c.device_id = d.device_id
  RETURNING c.device_id
)
SELECT count(*)::int AS deleted FROM gone`;
}

function deleteFetchesBy(userId: string, part: RawBuilder<boolean>) {
  return sql<Deleted>`
WITH gone AS (
  DELETE FROM coin_fetch f
  WHERE f.requester_id = ${userId}::uuid AND ${part}
  RETURNING f.user_id, f.key_ids
),
blanked AS (
  UPDATE coin c
  SET public_key = NULL, signature = NULL
  FROM (SELECT user_id, unnest(key_ids) AS key_id FROM gone) k
  WHERE c.user_id = k.user_id AND c.key_id = k.key_id
)
SELECT count(*)::int AS deleted FROM gone`;
}
