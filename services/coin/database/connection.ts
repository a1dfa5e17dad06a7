import type { CompiledQuery, DatabaseConnection } from 'kysely';
import { Deadline } from '../deadline';
import { StatementSpan, type TracedBatch } from '../telemetry/tracing';
import type { Database } from './pool';
import { toStoreError } from './sqlstate';

/** A statement of the query builder, an SQL template, or a text with parameters. */
export interface Statement<Row> {
  compile(db: Database): CompiledQuery<Row>;
}

/** A connection of the pool, held until `release`. */
export interface Connection {
  /**
   * Runs one statement in its own transaction.
   * @param batch the fetches that share the statement; default: it serves the running call
   * @throws the errors of toStoreError
   */
  execute<Row>(query: CompiledQuery<Row>, batch?: TracedBatch): Promise<Row[]>;
  /** Returns the connection to the pool. Must be called once. */
  release(): void;
}

/**
 * Runs one statement in its own transaction, unless the deadline passes while it waits for a
 * connection.
 * @throws DeadlineExceededError, CancelledError, and the errors of toStoreError
 */
export async function run<Row>(db: Database, query: Statement<Row>, deadline = Deadline.NONE): Promise<Row[]> {
  const connection = await connect(db, deadline);
  try {
    return await connection.execute(query.compile(db));
  } finally {
    connection.release();
  }
}

/**
 * Takes a connection from the pool, unless the deadline passes before one is free.
 * @throws DeadlineExceededError, CancelledError, and the errors of toStoreError
 */
export async function connect(db: Database, deadline = Deadline.NONE): Promise<Connection> {
  const since = performance.now();
  try {
    return await deadline.whileWaiting(
      (begin) =>
        new Promise<Connection>((resolve, reject) => {
          const held = (connection: DatabaseConnection): Promise<void> => {
            begin();
            const waitMs = performance.now() - since;
            return new Promise((release) => {
              resolve({ execute: (query, batch) => execute(connection, query, waitMs, batch), release });
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
  batch: TracedBatch | undefined,
): Promise<Row[]> {
  const span = StatementSpan.begin(query.sql, waitMs, batch);
  try {
    const { rows } = await connection.executeQuery<Row>(query);
    span?.answered(rows.length);
    return rows;
  } catch (error) {
    span?.failed(error);
    throw toStoreError(error);
  }
}
