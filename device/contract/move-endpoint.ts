import type { BackendName } from '../backend-choice';
import type { DeviceRecords, RecordKind } from './device-record';

/**
 * Where a storage stands in a copy. ACTIVE: in use (with a copy id when it came to be by that copy). RECEIVING: the
 * target, before everything has arrived. MOVING: the source, whose records are on their way. MOVED: the source, whose
 * records have all arrived and are being wiped. LEFT: the source, when the target is in use.
 */
export interface MoveState {
  readonly state: 'ACTIVE' | 'RECEIVING' | 'MOVING' | 'MOVED' | 'LEFT';
  /** The same on both sides. UUID. */
  readonly copyId: string | null;
  /** The call that carries on with the copy now; one that was overtaken can do nothing any more. UUID. */
  readonly runId: string | null;
}

/**
 * A storage as one side of a copy. In any state but ACTIVE it is fenced: opening it is a StorageMovedError, and so is
 * every call on a handle that another process opened before.
 *
 * Each method is durable when it resolves. Those that change something take the state in which alone they may, check
 * it in the same atomic step, and reject with MoveOvertakenError, having changed nothing, when it is another one.
 */
export interface MoveEndpoint {
  readonly backend: BackendName;
  /** How the storage is named in errors. */
  readonly shown: string;

  readState(): Promise<MoveState>;
  changeState(from: MoveState, to: MoveState): Promise<void>;
  isEmpty(): Promise<boolean>;
  /** All records of a kind, in batches that fit into memory. The storage must be fenced, so that they hold still. */
  read<Kind extends RecordKind>(kind: Kind): AsyncIterable<readonly DeviceRecords[Kind][]>;
  put<Kind extends RecordKind>(state: MoveState, kind: Kind, records: readonly DeviceRecords[Kind][]): Promise<void>;
  /** Removes every record; nothing of them stays in what belongs to the live storage. */
  wipe(state: MoveState): Promise<void>;
  /** Rejects with UnreachableError when what was put would not outlive a restart of the storage. */
  settle(): Promise<void>;
  close(): Promise<void>;
}

/** Records that go in one batch: at most about 2 MB of keys. */
export const BATCH_RECORDS = 200;

export function sameState(a: MoveState, b: MoveState): boolean {
  return a.state === b.state && a.copyId === b.copyId && a.runId === b.runId;
}

const STATES: readonly string[] = ['ACTIVE', 'RECEIVING', 'MOVING', 'MOVED', 'LEFT'] satisfies MoveState['state'][];

export function isMoveStateName(value: unknown): value is MoveState['state'] {
  return typeof value === 'string' && STATES.includes(value);
}
