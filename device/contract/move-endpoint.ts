import type { DeviceFacts, DeviceRecords, RecordKind } from './device-record';
import type { BackendName } from './device-storage';

/**
 * The part that a storage plays in a move. ACTIVE: it is in use (with the id of the move that filled it, if any).
 * RECEIVING: it is the target, and not all records have arrived. MOVING: it is the source, and its records are being
 * copied. MOVED: it is the source, all its records have arrived, and they are being wiped here. LEFT: it is the source,
 * it was wiped, and the target is in use.
 */
export interface MoveState {
  readonly state: 'ACTIVE' | 'RECEIVING' | 'MOVING' | 'MOVED' | 'LEFT';
  /** Identifies the move; equal on both sides. UUID. */
  readonly moveId: string | null;
  /** Identifies the call that currently performs the move. A call that was overtaken can change nothing. UUID. */
  readonly runId: string | null;
}

/**
 * A storage as the source or the target of a move. In any state but ACTIVE it is closed to everything else: opening it
 * fails with StorageMovedError, and so does every call on a handle that another process opened before.
 *
 * Each method is durable when it resolves. A method that changes something takes the expected state, checks it in the
 * same atomic step, and rejects with MoveOvertakenError, having changed nothing, if the storage is in another one.
 */
export interface MoveEndpoint {
  readonly backend: BackendName;
  /** The name of the storage in errors. */
  readonly shown: string;

  readState(): Promise<MoveState>;
  changeState(from: MoveState, to: MoveState): Promise<void>;
  isEmpty(): Promise<boolean>;
  /**
   * Reads all records of a kind, in batches that fit into memory. The state must not be ACTIVE: no record may change.
   */
  read<Kind extends RecordKind>(kind: Kind): AsyncIterable<readonly DeviceRecords[Kind][]>;
  put<Kind extends RecordKind>(state: MoveState, kind: Kind, records: readonly DeviceRecords[Kind][]): Promise<void>;
  readFacts(): Promise<DeviceFacts>;
  /** Replaces the facts of the target by those of the source. */
  putFacts(state: MoveState, facts: DeviceFacts): Promise<void>;
  /** Removes every record, including what the files of the live storage still hold of it. */
  wipe(state: MoveState): Promise<void>;
  /** Rejects with UnreachableError if the records that were put would not survive a restart of the storage. */
  settle(): Promise<void>;
  close(): Promise<void>;
}

/** The number of records in one batch: at most about 2 MB of keys. */
export const BATCH_RECORDS = 200;

export function sameState(a: MoveState, b: MoveState): boolean {
  return a.state === b.state && a.moveId === b.moveId && a.runId === b.runId;
}

const STATES: readonly string[] = ['ACTIVE', 'RECEIVING', 'MOVING', 'MOVED', 'LEFT'] satisfies MoveState['state'][];

export function isMoveStateName(value: unknown): value is MoveState['state'] {
  return typeof value === 'string' && STATES.includes(value);
}
