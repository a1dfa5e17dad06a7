import { sql } from 'kysely';
import { run } from '../database/connection';
import type { Database } from '../database/pool';
import { type Check, ok, warn } from './check';

/** Checks the replica that counts coins. It is never a failure, because the primary counts if the replica cannot. */
export async function checkReplica(replica: Database): Promise<Check> {
  const advice = 'set AQM_READ_DATABASE_URL to a streaming replica of DATABASE_URL; until then the primary counts';
  try {
    const [row] = await run(
      replica,
      sql<{ is_standby: boolean; lag: number }>`
SELECT pg_is_in_recovery() AS is_standby,
  coalesce(extract(epoch FROM now() - pg_last_xact_replay_timestamp()), 0)::int AS lag`,
    );
    if (!row?.is_standby) return warn('replica', 'not a standby', advice);
    return ok('replica', `its newest transaction is ${row.lag} s old`);
  } catch (error) {
    const { message, cause } = error as Error;
    return warn('replica', `cannot be reached: ${(cause as Error | undefined)?.message ?? message}`, advice);
  }
}
