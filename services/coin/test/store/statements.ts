import { sql } from 'kysely';
import type { TestService } from '../../../../testkit/service';

/**
 * Returns the number of statements that the database ran during some work, counting only statements
 * that contain `text`.
 */
export async function statementsOf(
  { database: { db } }: TestService,
  work: () => Promise<unknown>,
  text = '',
): Promise<number> {
  await sql`SELECT pg_stat_statements_reset(dbid => oid) FROM pg_database WHERE datname = current_database()`.execute(
    db,
  );
  await work();
  const { rows } = await sql<{ calls: number }>`
    SELECT coalesce(sum(calls), 0)::int AS calls FROM pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND query NOT LIKE '%pg_stat_statements%' AND position(${text} IN query) > 0`.execute(db);
  return rows[0]?.calls ?? -1;
}
