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
export interface FencingToken {
  /** Names the state of the database that was verified; see `isVerified`. */
  readonly incarnation: string;
  /** Names the operator's last decision to open this database. */
  readonly opening: string;
}

/** What a guarded statement reports when its stamp did not fit; it has done nothing then. */
export const UNVERIFIED = Symbol('unverified');

/** The restore fence as the statements see it (docs/adr/0005-restore-fence.md). */
export interface Guard {
  /**
   * Runs one statement that hands out, retires or stores, under a verified stamp. Where it reports UNVERIFIED, the
   * database is verified anew and the statement run again.
   * @throws FencedError
   */
  run<T>(statement: (passage: FencingToken) => Promise<T | typeof UNVERIFIED>): Promise<T>;
  /**
   * Takes down, outside of the database, what one statement has made spent. Before anybody is told of it, and without
   * waiting for anything between the statement's result and this call. @throws FencedError when it cannot be written
   */
  recordHandedOut(passage: FencingToken, coins: readonly SpentCoin[]): void;
  /** The same for the answer to a repeat, which an earlier statement made spent at `fetchTime`. */
  recordRepeat(passage: FencingToken, coin: SpentCoin, fetchTime: Date): void;
}

/**
 * Names the present state of the database: another value after a restart, a promotion, an exchange of the database or of
 * its tables below the same name (a dump restored in place), and after the operator's accept or retire, which write
 * database_life anew. (A partitioned table has no file, so its number stands in.) No table is read for it: that would cost a claim a tenth of its time. A SELECT of its
 * own, for PostgreSQL would otherwise evaluate it when it plans for given values, find that plan better than the one for
 * any values, and plan anew at every call.
 */
export const CURRENT_INCARNATION = `(
  SELECT extract(epoch FROM pg_postmaster_start_time()) || ' ' || coalesce(pg_relation_filepath('coin_stock'), 'coin_stock'::regclass::oid::text)
    || ' ' || pg_relation_filepath('database_life')
)`;

/**
 * The first step of a claim where the tables are distributed. It reads a table that is not, so that it runs on the node that was
 * asked: another one has another stamp.
 */
export const guardOnOneNode = (parameter: '$7' | '$10' | '$11'): string => `gate AS MATERIALIZED (
  SELECT ${CURRENT_INCARNATION} = ${parameter}::text AS verified FROM database_life
)`;

export const currentIncarnation: RawBuilder<string> = sql.raw(CURRENT_INCARNATION);

/**
 * Whether the database still is what the process verified last. As a condition of the first step of a statement it is a
 * one-time filter, so that no coin can leave between a restore and the next look, also through a pooler.
 */
export function isVerified(incarnation: string): RawBuilder<boolean> {
  return sql<boolean>`(${currentIncarnation} = ${incarnation}::text)`;
}
