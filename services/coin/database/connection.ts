import type { CompiledQuery, DatabaseConnection } from 'kysely';
import { Deadline } from '../deadline';
import { type QueuedCall, StatementSpan } from '../telemetry/tracing';
import type { Database } from './pool';
import { toStoreError } from './sqlstate';

/** A connection of the pool, held until `release`. */
export interface Connection {
  /**
   * Runs one statement in a transaction of its own.
   * @param traces the traced calls that share the statement; by default it belongs to the running call
   * @throws what toStoreError makes of a failure
   */
  execute<Row>(query: CompiledQuery<Row>, traces?: readonly QueuedCall[]): Promise<Row[]>;
  /** Must be called once. */
  release(): void;
}

/**
 * Takes a connection from the pool, unless the caller gives up before one is free.
 * @throws DeadlineExceededError, CancelledError, and what toStoreError makes of a failed connection
 */
export async function connect(db: Database, deadline = Deadline.NONE): Promise<Connection> {
  const since = performance.now();
  try {
    return await deadline.whileWaiting(
      (begin) =>
        new Promise<Connection>((resolve, reject) => {
          const held = (connection: DatabaseConnection): Promise<void> => {
            begin();
            return new Promise((release) => {
              const waitMs = performance.now() - since;
              resolve({ execute: (query, traces) => execute(connection, query, waitMs, traces), release });
            });
          };
          db.getExecutor().provideConnection(held).catch(reject);
        }),
    );
  } catch (error) {
    throw toStoreError(error);
  }
}

async function execute<Row>(
  connection: DatabaseConnection,
  query: CompiledQuery<Row>,
  waitMs: number,
  traces: readonly QueuedCall[] | undefined,
): Promise<Row[]> {
  const span = StatementSpan.begin(query.sql, waitMs, traces && (() => traces));
  try {
    const { rows } = await connection.executeQuery<Row>(query);
    span?.answered(rows.length);
    return rows;
  } catch (error) {
    span?.failed(error);
    throw toStoreError(error);
  }
}
