import { type RawBuilder, sql } from 'kysely';
import { run, type Statement } from '../database/connection';
import type { Database } from '../database/pool';
import type { Deadline } from '../deadline';

/**
 * The number of pages of coin_fetch that one statement reads: 32 MiB, about 250,000 fetches. It
 * takes less than a tenth of a second when they are in memory.
 */
const PAGES = 4096;

/** Returns the condition that selects the rows of some pages of `coin_fetch f`, in each partition. */
export function inPages(from: number, to: number): RawBuilder<boolean> {
  return sql<boolean>`f.ctid >= ${`(${from},0)`}::tid AND f.ctid < ${`(${to},0)`}::tid`;
}

/**
 * Reads all of coin_fetch in its physical order, in parts. That finds the fetches by one requester,
 * and those whose grace is over, without an index. Every fetch would have to write to an index: one
 * by time cost a batched claim 4 % of PostgreSQL's time, 90 s for the 36 million fetches of an hour,
 * and this reads them in 9 s.
 * @param statement receives the condition that selects a part, on the table `f`
 * @returns the rows of all parts
 * @throws DeadlineExceededError or CancelledError between two statements
 */
export async function* overFetches<Row>(
  db: Database,
  deadline: Deadline,
  statement: (part: RawBuilder<boolean>) => Statement<Row>,
): AsyncGenerator<Row[], void> {
  // A partitioned table has its rows in its partitions, and the same part of each is read.
  const [size] = await run(
    db,
    sql<{ pages: string }>`
SELECT coalesce(max(pg_relation_size(relid)), pg_relation_size('coin_fetch')) / current_setting('block_size')::int AS pages
FROM pg_partition_tree('coin_fetch') WHERE isleaf`,
    deadline,
  );
  const pages = Number(size?.pages ?? 0);
  for (let page = 0; page < pages; page += PAGES) {
    yield await run(db, statement(inPages(page, page + PAGES)), deadline);
  }
}
