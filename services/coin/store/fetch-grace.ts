import { type RawBuilder, sql } from 'kysely';
import type { Logger } from 'pino';
import { run } from '../database/connection';
import type { Database } from '../database/pool';

/** The time between two declarations of a service that runs, in milliseconds. */
const INTERVAL_MS = 60_000;
/** The time for which a declaration counts, in seconds: three of them may fail. */
const LASTS_S = 240;

/**
 * Returns SQL for the fetch grace, in seconds: the longest that any service uses, and at least the
 * given one. What was answered under a longer grace must stay repeatable, whichever service is asked.
 */
export function graceOfAll(seconds: number): RawBuilder<number> {
  return sql<number>`(SELECT greatest(${seconds}::int, max(seconds)) FROM fetch_grace WHERE used_until > now())`;
}

/**
 * Declares the fetch grace of this service in the database, now and every minute, so that every
 * service remembers answers for the longest of all.
 * @throws DatabaseUnavailableError if the first declaration fails
 */
export async function keepFetchGrace(db: Database, seconds: number, log: Logger): Promise<{ stop(): void }> {
  await declareFetchGrace(db, seconds);
  const timer = setInterval(() => {
    declareFetchGrace(db, seconds).catch((error) => log.warn({ err: error }, 'cannot declare AQM_FETCH_GRACE'));
  }, INTERVAL_MS).unref();
  return { stop: () => clearInterval(timer) };
}

/** Declares the grace once, and forgets those that no answer was given under any more. */
export async function declareFetchGrace(db: Database, seconds: number): Promise<void> {
  await run(
    db,
    sql`
WITH ended AS (
  DELETE FROM fetch_grace WHERE used_until <= now() AND seconds <> ${seconds}::int
)
INSERT INTO fetch_grace AS f (seconds, used_until)
VALUES (${seconds}::int, now() + make_interval(secs => ${seconds + LASTS_S}))
ON CONFLICT (seconds) DO UPDATE SET used_until = greatest(f.used_until, excluded.used_until)`,
  );
}
