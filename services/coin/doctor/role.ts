import { sql } from 'kysely';
import type { Config } from '../config';
import { run } from '../database/connection';
import type { Database } from '../database/pool';
import { type Check, ok, warn } from './check';

/** Connections beside the pools: those of migrations and of `aqm admin`, and of an operator's psql. */
const OTHER_CONNECTIONS = 5;

interface Found {
  readonly role: string;
  readonly is_superuser: boolean;
  readonly max_connections: number;
  readonly reserved: number;
  readonly role_limit: number;
  readonly database_limit: number;
}

/**
 * Checks the role that the service connects with, and that PostgreSQL grants as many connections as one service may open.
 * Skipped for the embedded PostgreSQL, which belongs to the service.
 */
export async function checkRole(
  db: Database,
  config: Pick<Config, 'poolSize' | 'workers' | 'pooler'>,
): Promise<Check[]> {
  const [found] = await run(
    db,
    sql<Found>`
SELECT current_user AS role, r.rolsuper AS is_superuser, r.rolconnlimit AS role_limit, d.datconnlimit AS database_limit,
  current_setting('max_connections')::int AS max_connections,
  current_setting('superuser_reserved_connections')::int
    + coalesce(current_setting('reserved_connections', true)::int, 0) AS reserved
FROM pg_roles r, pg_database d
WHERE r.rolname = current_user AND d.datname = current_database()`,
  );
  if (!found) return [];
  const checks = [
    found.is_superuser
      ? warn(
          'role',
          `the role "${found.role}" is a superuser: whoever takes over the service may do anything to the whole server`,
          'use a role that only owns this database (docs/deployment.md, "One machine")',
        )
      : ok('role', `the role "${found.role}" is no superuser`),
  ];
  // A pooler has its own number of connections to PostgreSQL.
  return config.pooler === 'none' ? [...checks, connections(found, config)] : checks;
}

function connections(found: Found, { poolSize, workers }: Pick<Config, 'poolSize' | 'workers'>): Check {
  const limits = [found.max_connections - found.reserved, found.role_limit, found.database_limit];
  const granted = Math.min(...limits.filter((limit) => limit >= 0));
  const wanted = poolSize * workers;
  const text = `${wanted} connections of one service (AQM_POOL_SIZE × AQM_WORKERS), of ${granted} that PostgreSQL grants`;
  if (wanted + OTHER_CONNECTIONS <= granted) return ok('connections', text);
  return warn(
    'connections',
    text,
    'reduce AQM_POOL_SIZE, raise max_connections (or the limit of the role or database), or use PgBouncer; count every replica',
  );
}
