import { sql } from 'kysely';
import { run } from '../../database/connection';
import type { Database } from '../../database/pool';
import { DELETION_MEMORY_S } from '../deleted-users';

/** The largest number of devices that one statement forgets. */
const SLICE = 2000;

/**
 * Forgets removed devices whose vault can hold no private half of an uploaded coin any more: those
 * that were removed as long ago as a deleted user is remembered. Runs small statements along an index
 * made for it. Several servers may run it at the same time.
 * @returns the number of devices that were forgotten
 */
export async function forgetRemovedDevices(db: Database): Promise<number> {
  let forgotten = 0;
  for (;;) {
    const [slice] = await run(
      db,
      sql<{ forgotten: number }>`
WITH due AS MATERIALIZED (
  SELECT user_id, device_id
  FROM coin_device
  WHERE remove_time < now() - make_interval(secs => ${DELETION_MEMORY_S})
  ORDER BY remove_time
  LIMIT ${SLICE}
  FOR UPDATE SKIP LOCKED
),
gone AS (
  DELETE FROM coin_device d
  USING due
  WHERE d.user_id = due.user_id AND d.device_id = due.device_id
  RETURNING d.device_id
)
SELECT count(*)::int AS forgotten FROM gone`,
    );
    forgotten += slice?.forgotten ?? 0;
    if ((slice?.forgotten ?? 0) < SLICE) return forgotten;
  }
}
