import { sql } from 'kysely';
import type { Database } from './pool';

/** The remedies for a pooler that passes on no timeouts and that AQM_POOLER does not declare. */
export const UNDECLARED_POOLER =
  'if the pooler is in transaction mode, set AQM_POOLER=transaction and run "aqm migrate timeouts"; otherwise remove the timeouts from its ignore_startup_parameters';

/** The number of times that each of two connections is asked for its process. */
const ROUNDS = 3;

/**
 * Returns true if a pooler in transaction mode is between. Two connections that are open at the same
 * time then share a process of PostgreSQL: the pooler gives the one that the first released to the
 * second. Otherwise each has its own. A pooler that others keep busy may go unnoticed, and so may one
 * that has no second connection.
 * @param db a pool of at least two connections
 */
export async function isTransactionPooler(db: Database): Promise<boolean> {
  const compare = async (one: Database, other: Database): Promise<boolean> => {
    const seen = new Set<number>();
    for (let round = 0; round < ROUNDS; round += 1) {
      seen.add(await processOf(one));
      if (seen.has(await processOf(other))) return true;
    }
    return false;
  };
  const withOther = (one: Database) => db.connection().execute((other) => compare(one, other));
  return db
    .connection()
    .execute(withOther)
    .catch(() => false);
}

async function processOf(connection: Database): Promise<number> {
  const { rows } = await sql<{ pid: number }>`SELECT pg_backend_pid() AS pid`.execute(connection);
  return rows[0]?.pid ?? 0;
}
