import { type RawBuilder, sql } from 'kysely';
import { run, type Statement } from '../database/connection';
import type { Database } from '../database/pool';
import type { Deadline } from '../deadline';

/**
 * The number of pages of coin_fetch that one statement reads, 128 MiB of them. It takes a quarter of
 * a second when they are in memory.
 */
const PAGES = 16_384;

/**
 * Runs a statement over every part of coin_fetch, to find the fetches by one requester. They have no
 * index, because every fetch would have to write to it, so the table is read in its physical order.
 * @param statement receives the condition that selects the part, on the table `f`
 * @returns the rows of all parts
 * @throws DeadlineExceededError or CancelledError between two statements
 */
export async function overFetches<Row>(
  db: Database,
  deadline: Deadline,
  statement: (part: RawBuilder<boolean>) => Statement<Row>,
): Promise<Row[]> {
  // A partitioned table has its rows in its partitions, and the same part of each is read.
  const [size] = await run(
    db,
    sql<{ pages: string }>`
SELECT coalesce(max(pg_relation_size(relid)), pg_relation_size('coin_fetch')) / current_setting('block_size')::int AS pages
FROM pg_partition_tree('coin_fetch') WHERE isleaf`,
    deadline,
  );
  const pages = Number(size?.pages ?? 0);
  const rows: Row[] = [];
  for (let page = 0; page < pages; page += PAGES) {
    const part = sql<boolean>`f.ctid >= ${`(${page},0)`}::tid AND f.ctid < ${`(${page + PAGES},0)`}::tid`;
    rows.push(...(await run(db, statement(part), deadline)));
  }
  return rows;
}
