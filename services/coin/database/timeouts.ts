import { sql } from 'kysely';
import { run } from './connection';
import type { Database, Timeouts } from './pool';

/** One timeout with its wanted value and the one in force. */
export interface Timeout {
  readonly name: string;
  readonly wantedMs: number;
  readonly foundMs: number;
}

/** Returns the timeouts with their names in PostgreSQL. */
function byName({ statementTimeoutMs, lockTimeoutMs, idleInTransactionTimeoutMs }: Timeouts): [string, number][] {
  return [
    ['statement_timeout', statementTimeoutMs],
    ['lock_timeout', lockTimeoutMs],
    ['idle_in_transaction_session_timeout', idleInTransactionTimeoutMs ?? statementTimeoutMs],
  ];
}

/** Reads the timeouts that are in force on a connection that did not set them itself. */
export async function readTimeouts(db: Database, wanted: Timeouts): Promise<Timeout[]> {
  const rows = await run(
    db,
    sql<{
      name: string;
      found: number;
    }>`SELECT name, setting::int AS found FROM pg_settings WHERE name LIKE '%timeout'`,
  );
  const found = new Map(rows.map((row) => [row.name, row.found]));
  return byName(wanted).map(([name, wantedMs]) => ({ name, wantedMs, foundMs: found.get(name) ?? 0 }));
}

/**
 * Makes the timeouts the defaults of the connected role in the connected database. They apply to
 * every later connection, including those of a pooler in transaction mode, which passes on neither
 * start-up parameters nor a SET.
 * @returns the settings, as text
 */
export async function setTimeouts(db: Database, wanted: Timeouts): Promise<string[]> {
  return db.transaction().execute(async (transaction) => {
    const set: string[] = [];
    for (const [name, ms] of byName(wanted)) {
      const [row] = await run(
        transaction,
        sql<{ database: string }>`SELECT set_config(${name}, ${String(ms)}, true), current_database() AS database`,
      );
      const database = sql.id(row?.database ?? '');
      await run(transaction, sql`ALTER ROLE CURRENT_USER IN DATABASE ${database} SET ${sql.id(name)} FROM CURRENT`);
      set.push(`${name} = ${ms} ms`);
    }
    return set;
  });
}
