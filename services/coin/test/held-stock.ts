import { sql } from 'kysely';
import type { TestService } from './service';

/** Runs `work` once `statements` statements of `calls` wait for the stock, which nobody may touch until it ends. */
export async function whileHeld(
  { database: { db } }: TestService,
  statements: number,
  calls: () => void,
  work: () => Promise<void>,
): Promise<void> {
  await db.transaction().execute(async (holder) => {
    await sql`LOCK TABLE coin_stock IN ACCESS EXCLUSIVE MODE`.execute(holder);
    calls();
    for (let blocked = 0; blocked < statements; ) {
      const { rows } = await sql<{ blocked: number }>`
SELECT count(*)::int AS blocked FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE relation = 'coin_stock'::regclass AND NOT granted AND datname = current_database()`.execute(db);
      blocked = rows[0]?.blocked ?? 0;
    }
    await work();
  });
}
