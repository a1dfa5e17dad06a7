import { sql } from 'kysely';
import { run } from '../database/connection';
import type { Database, Timeouts } from '../database/pool';
import { UNDECLARED_POOLER } from '../database/pooler';
import { replicaTimeouts } from '../database/replica';
import { readTimeouts } from '../database/timeouts';
import { type Check, fail, ok, warn } from './check';

/**
 * Checks the replica that counts coins. One that is away is no failure, because the primary counts then; one without
 * timeouts is.
 */
export async function checkReplica(
  replica: Database,
  { pooler, ...timeouts }: Timeouts & { readonly pooler: 'none' | 'transaction' },
): Promise<Check> {
  const advice = 'set AQM_READ_DATABASE_URL to a streaming replica of DATABASE_URL; until then the primary counts';
  try {
    const found = pooler === 'none' ? await readTimeouts(replica, replicaTimeouts(timeouts)) : [];
    if (found.some(({ foundMs, wantedMs }) => foundMs !== wantedMs)) {
      return fail('replica', 'behind a pooler that ignores the timeouts of the service', UNDECLARED_POOLER);
    }
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
