import { sql } from 'kysely';
import { run } from '../database/connection';
import type { OpenPostgres } from '../database/open';
import type { Database, Timeouts } from '../database/pool';
import { isTransactionPooler, UNDECLARED_POOLER } from '../database/pooler';
import { readTimeouts } from '../database/timeouts';
import { type Check, fail, ok } from './check';

interface Found {
  readonly version: number;
  readonly version_text: string;
  readonly synchronous_commit: string;
  readonly fsync: string;
  readonly full_page_writes: string;
  readonly isolation: string;
  readonly is_standby: boolean;
}

/** The sources of a PostgreSQL setting; the last one wins. */
const WHERE_SET =
  'the last of these that sets it wins: postgresql.conf, ALTER SYSTEM, ALTER DATABASE … SET, ALTER ROLE … SET, ALTER ROLE … IN DATABASE … SET';

/** Checks the server and the settings on which the guarantees depend. */
export async function checkServer(db: Database): Promise<Check[]> {
  const [found] = await run(
    db,
    sql<Found>`
SELECT current_setting('server_version_num')::int AS version,
  current_setting('server_version') AS version_text,
  current_setting('synchronous_commit') AS synchronous_commit,
  current_setting('fsync') AS fsync,
  current_setting('full_page_writes') AS full_page_writes,
  current_setting('default_transaction_isolation') AS isolation,
  pg_is_in_recovery() AS is_standby`,
  );
  if (!found) return [];
  return [
    found.version >= 160_000
      ? ok('postgresql', `PostgreSQL ${found.version_text}`)
      : fail('postgresql', `PostgreSQL ${found.version_text} is too old`, 'upgrade to PostgreSQL 16 or newer'),
    found.is_standby
      ? fail(
          'primary',
          'the database is a read-only standby',
          'set DATABASE_URL to the primary; after a failover, promote this one (docs/runbook.md, "Failover")',
        )
      : ok('primary', 'the database accepts writes'),
    durability(found),
    found.isolation === 'read committed'
      ? ok('isolation', 'transactions are read committed')
      : fail(
          'isolation',
          `default_transaction_isolation is ${found.isolation}, but a claim relies on seeing what was committed while it waited`,
          `run ALTER ROLE … SET default_transaction_isolation = 'read committed' (${WHERE_SET})`,
        ),
  ];
}

/** Checks that a commit survives a crash: a fetch that is answered and then lost would be handed out a second time. */
function durability(found: Found): Check {
  const wrong: string[] = [];
  if (!['on', 'remote_apply'].includes(found.synchronous_commit)) {
    wrong.push(`synchronous_commit is ${found.synchronous_commit} and must be on or remote_apply`);
  }
  if (found.fsync !== 'on') wrong.push('fsync is off');
  if (found.full_page_writes !== 'on') wrong.push('full_page_writes is off');
  return wrong.length === 0
    ? ok('durability', `synchronous_commit is ${found.synchronous_commit}, fsync and full_page_writes are on`)
    : fail(
        'durability',
        `${wrong.join('; ')}: coins that were handed out could be lost and handed out again`,
        `correct these settings (${WHERE_SET})`,
      );
}

/** Checks that no pooler is between which AQM_POOLER does not declare. Returns nothing if there is none. */
export async function checkPooler(
  { db, withLongTimeouts }: Pick<OpenPostgres, 'db' | 'withLongTimeouts'>,
  wanted: Timeouts,
): Promise<Check[]> {
  if (await withLongTimeouts(isTransactionPooler)) {
    const advice = 'set AQM_POOLER=transaction, and run "aqm migrate timeouts" once';
    return [fail('pooler', 'DATABASE_URL leads to a pooler in transaction mode', advice)];
  }
  const isIgnored = (await readTimeouts(db, wanted)).some(({ foundMs, wantedMs }) => foundMs !== wantedMs);
  return isIgnored
    ? [fail('pooler', 'DATABASE_URL leads to a pooler that ignores the timeouts of the service', UNDECLARED_POOLER)]
    : [];
}

/** Checks that the role has the timeouts of the settings, which AQM_POOLER=transaction needs. */
export async function checkTimeouts(db: Database, wanted: Timeouts): Promise<Check> {
  const wrong = (await readTimeouts(db, wanted)).filter(({ foundMs, wantedMs }) => foundMs !== wantedMs);
  if (wrong.length === 0) return ok('timeouts', 'the role has the timeouts of the settings');
  return fail(
    'timeouts',
    wrong.map(({ name, foundMs, wantedMs }) => `${name} is ${foundMs} ms, the setting says ${wantedMs} ms`).join('; '),
    'run "aqm migrate timeouts" with the settings of the services, then RECONNECT in PgBouncer\'s console',
  );
}
