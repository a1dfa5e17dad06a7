import { sql } from 'kysely';
import { run } from '../../database/connection';
import type { Database } from '../../database/pool';
import { DELETION_MEMORY_S } from '../deleted-users';

/**
 * Forgets deleted users of whom no device can hold the private half of an uploaded coin any more.
 * Several servers may run it at the same time.
 * @returns the number of users that were forgotten
 */
export async function forgetDeleted(db: Database): Promise<number> {
  const [row] = await run(
    db,
    sql<{ forgotten: number }>`
WITH gone AS (
  DELETE FROM database_deletion
  WHERE delete_time < now() - make_interval(secs => ${DELETION_MEMORY_S})
  RETURNING user_hash
)
SELECT count(*)::int AS forgotten FROM gone`,
  );
  return row?.forgotten ?? 0;
}
