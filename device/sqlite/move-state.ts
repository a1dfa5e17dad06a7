import type Database from 'better-sqlite3';
import { RECORD_KINDS, type RecordKind } from '../contract/device-record';
import { isMoveStateName, type MoveState } from '../contract/move-endpoint';
import { StorageCorruptedError, StorageMovedError } from '../errors';

/** The part of Connection that this file needs. */
interface Preparing {
  prepare<Parameters extends unknown[], Row = unknown>(sql: string): Database.Statement<Parameters, Row>;
}

/** A row of the table copy_state, whose name and columns are those of migration 0002. */
interface StateRow {
  readonly state: string;
  readonly copy_id: string | null;
  readonly run_id: string | null;
}

export function readMoveState(connection: Preparing): MoveState {
  const row = connection.prepare<[], StateRow>('SELECT state, copy_id, run_id FROM copy_state').get();
  if (row === undefined) return { state: 'ACTIVE', moveId: null, runId: null };
  if (!isMoveStateName(row.state)) throw new StorageCorruptedError();
  return { state: row.state, moveId: row.copy_id, runId: row.run_id };
}

/**
 * Records the state, and renames the tables when the storage stops or starts being in use. Must be called inside a
 * write transaction.
 */
export function writeMoveState(connection: Preparing, { state, moveId, runId }: MoveState): void {
  const wasRenamed = readMoveState(connection).state !== 'ACTIVE';
  const isRenamed = state !== 'ACTIVE';
  if (isRenamed !== wasRenamed) {
    // Statements on the usual names fail from now on. Reading the state in every statement instead would cost each of
    // them.
    for (const kind of RECORD_KINDS) {
      connection.prepare(`ALTER TABLE ${tableName(kind, wasRenamed)} RENAME TO ${tableName(kind, isRenamed)}`).run();
    }
  }
  connection
    .prepare('INSERT OR REPLACE INTO copy_state (only_row, state, copy_id, run_id) VALUES (1, ?, ?, ?)')
    .run(state, moveId, runId);
}

/** Returns the name of a table, which is another one while the storage takes part in a move. */
export function tableName(kind: RecordKind, isRenamed: boolean): string {
  return isRenamed ? `fenced_${kind}` : kind;
}

/** Returns the reason why the storage must not be used, or null if it is in use. */
export function movedError(connection: Preparing, path: string): StorageMovedError | null {
  const { state } = readMoveState(connection);
  if (state === 'ACTIVE') return null;
  return new StorageMovedError(path, state === 'LEFT' ? 'MOVED' : state);
}
