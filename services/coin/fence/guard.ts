import { type RawBuilder, sql } from 'kysely';
import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';

/** A coin that is spent: handed out or retired. */
export interface SpentCoin {
  readonly userId: string;
  readonly keyId: string;
  readonly coinCategory: CoinCategory;
  readonly expireTime: Date;
}

/** Under what a statement may hand out or store. */
export interface Passage {
  /** Names the state of the database that was verified; see `isVerified`. */
  readonly stamp: string;
  /** Names the operator's last decision to open this database. */
  readonly opening: string;
}

/** What a guarded statement reports when its stamp did not fit; it has done nothing then. */
export const UNVERIFIED = Symbol('unverified');

/** The restore fence as the statements see it (docs/adr/0005-restore-fence.md). */
export interface Gate {
  /**
   * Runs one statement that hands out, retires or stores, under a verified stamp. Where it reports UNVERIFIED, the
   * database is verified anew and the statement run again.
   * @throws FencedError
   */
  pass<T>(statement: (passage: Passage) => Promise<T | typeof UNVERIFIED>): Promise<T>;
  /**
   * Takes down, outside of the database, what one statement has made spent. Before anybody is told of it, and without
   * waiting for anything between the statement's result and this call. @throws FencedError when it cannot be written
   */
  acknowledge(passage: Passage, coins: readonly SpentCoin[]): void;
  /** The same for the answer to a repeat, which an earlier statement made spent at `fetchTime`. */
  acknowledgeAgain(passage: Passage, coin: SpentCoin, fetchTime: Date): void;
}

/**
 * Names the present state of the database: another value after a restart, a promotion, an exchange of the database or of
 * its tables below the same name (a dump restored in place), and after the operator's accept or retire, which write
 * database_life anew. (A partitioned table has no file, so its number stands in.) No table is read for it: that would cost a claim a tenth of its time. A SELECT of its
 * own, for PostgreSQL would otherwise evaluate it when it plans for given values, find that plan better than the one for
 * any values, and plan anew at every call.
 */
export const CURRENT_STAMP = `(
  SELECT extract(epoch FROM pg_postmaster_start_time()) || ' ' || coalesce(pg_relation_filepath('coin_stock'), 'coin_stock'::regclass::oid::text)
    || ' ' || pg_relation_filepath('database_life')
)`;

/**
 * The first step of a claim where the tables are distributed. It reads a table that is not, so that it runs on the node that was
 * asked: another one has another stamp.
 */
export const gateOnOneNode = (parameter: '$7' | '$10' | '$11'): string => `gate AS MATERIALIZED (
  SELECT ${CURRENT_STAMP} = ${parameter}::text AS verified FROM database_life
)`;

export const currentStamp: RawBuilder<string> = sql.raw(CURRENT_STAMP);

/**
 * Whether the database still is what the process verified last. As a condition of the first step of a statement it is a
 * one-time filter, so that no coin can leave between a restore and the next look, also through a pooler.
 */
export function isVerified(stamp: string): RawBuilder<boolean> {
  return sql<boolean>`(${currentStamp} = ${stamp}::text)`;
}
