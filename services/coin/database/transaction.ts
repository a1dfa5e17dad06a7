import { CompiledQuery } from 'kysely';
import type { Deadline } from '../deadline';
import { type Connection, connect } from './connection';
import type { Database } from './pool';

const BEGIN = CompiledQuery.raw('BEGIN ISOLATION LEVEL READ COMMITTED');
const COMMIT = CompiledQuery.raw('COMMIT');
const ROLLBACK = CompiledQuery.raw('ROLLBACK');

/**
 * Runs several statements in one transaction, unless the deadline passes while it waits for a
 * connection. Each statement sees what was committed before it began, so one that follows a lock
 * sees everything that the earlier holders of the lock did.
 * @throws DeadlineExceededError, CancelledError, and the errors of toStoreError; after an error of
 *   the commit the outcome is unknown, after any other nothing was changed
 */
export async function inTransaction<T>(
  db: Database,
  deadline: Deadline,
  work: (connection: Pick<Connection, 'execute'>) => Promise<T>,
): Promise<T> {
  const connection = await connect(db, deadline);
  try {
    await connection.execute(BEGIN);
    let result: T;
    try {
      result = await work(connection);
    } catch (error) {
      // A connection that cannot do this is closed, or ended by PostgreSQL as idle in a transaction.
      await connection.execute(ROLLBACK).catch(() => {});
      throw error;
    }
    await connection.execute(COMMIT);
    return result;
  } finally {
    connection.release();
  }
}
