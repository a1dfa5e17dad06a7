import { type RawBuilder, sql } from 'kysely';
import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';

/**
 * A coin that is spent: handed out or retired; or something else of which the watermark has a record
 * (ring-file.ts).
 */
export interface SpentCoin {
  readonly userId: string;
  readonly keyId: string;
  readonly coinCategory: CoinCategory;
  readonly expireTime: Date;
}

/**
 * Proof that the database was verified. Every statement that hands out or stores coins needs it.
 */
export interface FencingToken {
  /** Identifies the running database that was verified; see `isVerified`. */
  readonly incarnation: string;
  /**
   * Identifies the latest decision to let this database hand out coins: its first start, or an
   * operator's accept or retire.
   */
  readonly activation: string;
}

/**
 * Reported by a guarded statement that found another incarnation than that of its token, and
 * therefore did nothing.
 */
export const UNVERIFIED = Symbol('unverified');

/** Returns the keyed hash of a deleted user, and undefined for any other user. */
export type DeletedUserLookup = (userId: string) => string | undefined;

/** The restore fence as the statements see it (docs/adr/0005-restore-fence.md). */
export interface Guard {
  /**
   * Runs one statement that hands out, retires or stores coins, with a token. Where the statement
   * reports UNVERIFIED, the database is verified again and the statement is repeated.
   * @throws FencedError
   */
  run<T>(statement: (token: FencingToken) => Promise<T | typeof UNVERIFIED>): Promise<T>;
  /**
   * Does the same for a statement that hands out or retires. It is not begun while earlier records
   * wait for a write to end: the folder of the watermark may hang.
   * @throws FencedError
   */
  runSpending<T>(statement: (token: FencingToken) => Promise<T | typeof UNVERIFIED>): Promise<T>;
  /**
   * Records, outside of the database, the coins that one statement has made spent. Must be called
   * without waiting for anything between the statement's result and this call, and no caller may learn
   * of the coins before the promise has resolved.
   * @throws UnrecordedError when the record cannot be written
   */
  recordHandedOut(token: FencingToken, coins: readonly SpentCoin[]): Promise<void>;
  /**
   * Records one coin of the answer to a repeated request. An earlier statement made the coin spent,
   * at `fetchTime`.
   * @throws WatermarkUnavailableError when the record cannot be written
   */
  recordRepeat(token: FencingToken, coin: SpentCoin, fetchTime: Date): Promise<void>;
  /**
   * Records, outside of the database, that users were deleted, and removes their ids from the records
   * of this process. It may be called again for the same users.
   * @param hashes the keyed hashes of the users who were deleted since the last call
   */
  recordDeletions(lookup: DeletedUserLookup, hashes: readonly string[]): Promise<void>;
}

/**
 * SQL that identifies the running database. Its value changes with a restart, with a promotion,
 * where the database or its tables are replaced under the same name (a dump restored in place), and
 * with an operator's accept or retire, which give database_life a new file. (A partitioned table
 * has no file; its number stands in.)
 *
 * It also makes the running transaction durable, where the session's synchronous_commit would not:
 * an operator may have switched that off for the role or the database since the service started. Only
 * this transaction is changed, so nothing is left in a pooler's session.
 *
 * It reads no table, because that would cost a claim a tenth of its time. It is a SELECT of its
 * own, because PostgreSQL would otherwise evaluate it while it makes a custom plan, find that plan
 * cheaper than the generic one, and so plan the statement at every call.
 */
export const CURRENT_INCARNATION = `(
  SELECT extract(epoch FROM pg_postmaster_start_time()) || ' ' || coalesce(pg_relation_filepath('coin_stock'), 'coin_stock'::regclass::oid::text)
    || ' ' || pg_relation_filepath('database_life')
    || CASE WHEN current_setting('synchronous_commit') IN ('on', 'remote_apply') THEN ''
      ELSE left(set_config('synchronous_commit', 'on', true), 0) END
)`;

/**
 * Returns the first step of a claim on distributed tables. It reads database_life, which is not
 * distributed, so that it runs on the node that received the statement: every other node has
 * another incarnation.
 */
export const guardOnOneNode = (parameter: '$7' | '$10' | '$11'): string => `guard AS MATERIALIZED (
  SELECT ${CURRENT_INCARNATION} = ${parameter}::text AS verified FROM database_life
)`;

/** CURRENT_INCARNATION, for SQL templates and the query builder. */
export const currentIncarnation: RawBuilder<string> = sql.raw(CURRENT_INCARNATION);

/**
 * Returns the condition that the running database is the one that was verified last. In the first
 * step of a statement it becomes a one-time filter. So no coin can leave between a restore and the
 * next check, even through a pooler.
 */
export function isVerified(incarnation: string): RawBuilder<boolean> {
  return sql<boolean>`(${currentIncarnation} = ${incarnation}::text)`;
}
