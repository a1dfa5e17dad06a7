import { RECORD_KINDS, type RecordKind } from '../contract/device-record';
import { isMoveStateName, type MoveState } from '../contract/move-endpoint';
import { StorageCorruptedError, StorageMovedError } from '../errors';
import type { Connection } from './connection';

interface StateRow {
  readonly state: string;
  readonly copy_id: string | null;
  readonly run_id: string | null;
}

export function readMoveState(connection: Connection): MoveState {
  const row = connection.prepare<[], StateRow>('SELECT state, copy_id, run_id FROM copy_state').get();
  if (row === undefined) return { state: 'ACTIVE', copyId: null, runId: null };
  if (!isMoveStateName(row.state)) throw new StorageCorruptedError();
  return { state: row.state, copyId: row.copy_id, runId: row.run_id };
}

/** Call it inside a write. */
export function writeMoveState(connection: Connection, { state, copyId, runId }: MoveState): void {
  const fenced = readMoveState(connection).state !== 'ACTIVE';
  const fence = state !== 'ACTIVE';
  for (const kind of RECORD_KINDS) {
    // Costs nothing while the storage is in use, unlike asking for the state in every statement.
    if (fence !== fenced) {
      connection.prepare(`ALTER TABLE ${tableName(kind, fenced)} RENAME TO ${tableName(kind, fence)}`).run();
    }
  }
  connection
    .prepare('INSERT OR REPLACE INTO copy_state (only_row, state, copy_id, run_id) VALUES (1, ?, ?, ?)')
    .run(state, copyId, runId);
}

export function tableName(kind: RecordKind, fenced: boolean): string {
  return fenced ? `fenced_${kind}` : kind;
}

/** Why the storage must not be used; null when it may. */
export function movedError(connection: Connection, path: string): StorageMovedError | null {
  const { state } = readMoveState(connection);
  if (state === 'ACTIVE') return null;
  return new StorageMovedError(path, state === 'LEFT' ? 'MOVED' : state);
}
