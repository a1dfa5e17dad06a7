import { sql } from 'kysely';
import type { TestService } from '../../../../../testkit/service';

/**
 * Locks the stock and runs `calls`. Runs `work` once `statements` of their statements wait for the
 * lock, and releases the lock when `work` ends.
 */
export async function whileHeld(
  service: TestService,
  statements: number,
  calls: () => void,
  work: () => Promise<void>,
): Promise<void> {
  await service.database.db.transaction().execute(async (holder) => {
    await sql`LOCK TABLE coin_stock IN ACCESS EXCLUSIVE MODE`.execute(holder);
    calls();
    await blockedByHolder(service, statements);
    await work();
  });
}

/** Waits until at least so many statements are blocked by the lock on the stock. */
export async function blockedByHolder({ database: { db } }: TestService, statements: number): Promise<void> {
  for (let blocked = 0; blocked < statements; ) {
    const { rows } = await sql<{ blocked: number }>`
SELECT count(*)::int AS blocked FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE relation = 'coin_stock'::regclass AND NOT granted AND datname = current_database()`.execute(db);
    blocked = rows[0]?.blocked ?? 0;
  }
}
