import { sql } from 'kysely';
import type { Database } from './pool';

/** Says why tables cannot be created, and what helps. */
export interface MissingRights {
  readonly problem: string;
  readonly remedy: string;
}

/**
 * Returns why the connected role cannot create the service's tables; undefined if it can. Since PostgreSQL 15, only the owner of a database may create tables in its schema public.
 */
export async function missingRights(db: Database): Promise<MissingRights | undefined> {
  const { rows } = await sql<{
    role: string;
    database: string;
    schema: string | null;
    path: string;
    allowed: boolean | null;
  }>`
SELECT current_user AS role, current_database() AS database, current_schema() AS schema,
  current_setting('search_path') AS path, has_schema_privilege(current_schema(), 'CREATE') AS allowed`.execute(db);
  const [found] = rows;
  if (!found || found.allowed) return undefined;
  const { role, database, schema, path } = found;
  if (schema === null) {
    return {
      problem: `no schema of the search_path of the role "${role}" exists in the database "${database}": ${path}`,
      remedy: `create the schema, or run ALTER ROLE "${role}" RESET search_path`,
    };
  }
  return {
    problem: `permission denied for schema ${schema}: the role "${role}" must not create tables in it`,
    remedy: `make the role the owner of the database (ALTER DATABASE "${database}" OWNER TO "${role}"), or grant it the schema (GRANT CREATE ON SCHEMA ${schema} TO "${role}")`,
  };
}
