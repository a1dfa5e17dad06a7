import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { run } from '../../database/connection';
import type { Database } from '../../database/pool';
import type { Job } from '../../telemetry/metrics';

/**
 * The time in seconds after which another service takes a job over from one that no longer renews
 * its lease, and the time between two renewals.
 */
const LEASE_S = 60;
const RENEWAL_MS = 20_000;

/** The time after which a job that failed is due again, in seconds. */
const RETRY_S = 300;

/** Names this process in the leases. */
const HOLDER = randomUUID();

/**
 * Runs `work` if the job is due and no other service runs it. The lease is a row and not an advisory
 * lock, because a job runs many statements on many connections, possibly through a pooler in
 * transaction mode. If the lease is lost, two services do the same job for a while, which is safe.
 * The job is due again a whole number of periods after its last time; one that was missed is due at
 * once.
 * @param periodS the time between two runs, in seconds
 * @returns the result of `work`; undefined if there is nothing to do
 * @throws what `work` throws; the job is due again after RETRY_S
 */
export async function whenDue<T>(
  db: Database,
  job: Job,
  periodS: number,
  work: () => Promise<T>,
): Promise<T | undefined> {
  if (!(await takeLease(db, job))) return undefined;
  const renewal = setInterval(() => void renewLease(db, job).catch(() => {}), RENEWAL_MS).unref();
  try {
    const result = await work();
    await endLease(
      db,
      job,
      sql`next_time + make_interval(secs => ${periodS}
      * (1 + floor(extract(epoch FROM greatest(now() - next_time, interval '0')) / ${periodS})))`,
    );
    return result;
  } catch (error) {
    await endLease(db, job, sql`now() + make_interval(secs => ${RETRY_S})`).catch(() => {});
    throw error;
  } finally {
    clearInterval(renewal);
  }
}

async function takeLease(db: Database, job: Job): Promise<boolean> {
  const taken = await run(
    db,
    sql`
UPDATE database_job
SET holder = ${HOLDER}::uuid, lease_until = now() + make_interval(secs => ${LEASE_S})
WHERE job = ${job} AND next_time <= now() AND (lease_until IS NULL OR lease_until < now())
RETURNING job`,
  );
  return taken.length > 0;
}

async function renewLease(db: Database, job: Job): Promise<void> {
  await run(
    db,
    sql`
UPDATE database_job SET lease_until = now() + make_interval(secs => ${LEASE_S})
WHERE job = ${job} AND holder = ${HOLDER}::uuid`,
  );
}

async function endLease(db: Database, job: Job, nextTime: ReturnType<typeof sql>): Promise<void> {
  await run(
    db,
    sql`
UPDATE database_job SET next_time = ${nextTime}, holder = NULL, lease_until = NULL
WHERE job = ${job} AND holder = ${HOLDER}::uuid`,
  );
}
