import { sql } from 'kysely';
import { type Database, run } from './pool';

/** After how long PostgreSQL gives up, in milliseconds. */
export interface Timeouts {
  /** Ends a statement. */
  readonly statementTimeoutMs: number;
  /** Ends the waiting for a row. */
  readonly lockTimeoutMs: number;
  /** Ends a connection that has a transaction open and does nothing. undefined: as for a statement. */
  readonly idleInTransactionTimeoutMs?: number;
}

/** One timeout as it is in force. */
export interface Timeout {
  readonly name: string;
  readonly wantedMs: number;
  readonly foundMs: number;
}

/** PostgreSQL's names for them. */
function byName({ statementTimeoutMs, lockTimeoutMs, idleInTransactionTimeoutMs }: Timeouts): [string, number][] {
  return [
    ['statement_timeout', statementTimeoutMs],
    ['lock_timeout', lockTimeoutMs],
    ['idle_in_transaction_session_timeout', idleInTransactionTimeoutMs ?? statementTimeoutMs],
  ];
}

/** The timeouts of a connection that brought none along. */
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
 * Makes the timeouts those of the connected role in the connected database, for every connection that is opened from now
 * on, also by a pooler in transaction mode, which passes on neither start-up parameters nor a SET.
 * @returns what was set, as text
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
