import type Database from 'better-sqlite3';
import { ClosedError, InvalidArgumentError, StorageBusyError, StorageCorruptedError } from '../errors';
import type { FileIdentity } from './file-identity';
import { movedError } from './move-state';
import { isSqliteError, namedError } from './sqlite-errors';

export interface ConnectionSettings {
  readonly path: string;
  readonly busyTimeoutMs: number;
  readonly now: () => Date;
}

/**
 * One open database file. All reads and writes use `read`, `readTogether` and `write`. These throw ClosedError after
 * close, and turn a failure of SQLite into a named error that leaves nothing half-written.
 */
export class Connection {
  readonly #database: Database.Database;
  readonly #identity: FileIdentity;
  readonly #settings: ConnectionSettings;
  readonly #begin: Database.Statement;
  readonly #beginImmediate: Database.Statement;
  readonly #commit: Database.Statement;
  readonly #rollback: Database.Statement;

  constructor(database: Database.Database, identity: FileIdentity, settings: ConnectionSettings) {
    this.#database = database;
    this.#identity = identity;
    this.#settings = settings;
    this.#begin = database.prepare('BEGIN');
    this.#beginImmediate = database.prepare('BEGIN IMMEDIATE');
    this.#commit = database.prepare('COMMIT');
    this.#rollback = database.prepare('ROLLBACK');
  }

  /** Prepares a statement. The engine does so once for each, when the storage is opened. */
  prepare<Parameters extends unknown[], Row = unknown>(sql: string): Database.Statement<Parameters, Row> {
    return this.#database.prepare<Parameters, Row>(sql);
  }

  /** Reads the injected clock, in milliseconds since 1970. */
  now(): number {
    const nowMs = this.#settings.now().getTime();
    if (Number.isNaN(nowMs)) throw new InvalidArgumentError('now', 'must return a valid Date');
    return nowMs;
  }

  /** Runs one statement that reads. */
  read<T>(work: (nowMs: number) => T): T {
    return this.#named(() => work(this.now()));
  }

  /** Runs several statements that read, in one transaction, so that all see the same state. */
  readTogether<T>(work: (nowMs: number) => T): T {
    return this.#named(() => this.#transaction(this.#begin, work));
  }

  /**
   * Like readTogether, for a result that others act on as complete. Throws StorageMissingError if the file was removed
   * or replaced. The other reads do not look, because that would cost them up to a quarter of their time.
   */
  readComplete<T>(work: (nowMs: number) => T): T {
    this.#named(() => this.#identity.refuseGone());
    return this.readTogether(work);
  }

  /**
   * Runs one transaction, which is on disk when this returns. It takes the write lock at its beginning: a transaction
   * that reads and then writes would fail instead of waiting if another process wrote in between. Throws
   * StorageMissingError if the file was removed or replaced, because the write would be lost.
   */
  write<T>(work: (nowMs: number) => T): T {
    return this.#named(() => this.#transaction(this.#beginImmediate, work));
  }

  /** Throws StorageMovedError unless the storage is in use, see MoveState. */
  refuseMoved(): void {
    const moved = this.read(() => movedError(this, this.#settings.path));
    if (moved !== null) throw moved;
  }

  /**
   * Writes the WAL back into the file and truncates it, because it holds older images of pages. Throws StorageBusyError
   * if another process keeps reading or writing.
   */
  checkpoint(): void {
    this.#named(() => {
      this.#identity.refuseGone();
      const [result] = this.#database.pragma('wal_checkpoint(TRUNCATE)') as { readonly busy: number }[];
      if (result?.busy !== 0) throw new StorageBusyError(this.#settings.busyTimeoutMs);
    });
  }

  /** Writes a consistent copy, encrypted with the same key, into an empty file. Other processes may go on writing. */
  copyTo(file: string): void {
    this.#named(() => {
      this.#identity.refuseGone();
      this.#database.prepare('VACUUM INTO ?').run(file);
    });
  }

  /**
   * Keeps every other connection out until this one is closed, and turns the WAL into part of the file. Throws
   * StorageBusyError if another connection is open.
   */
  lockOthersOut(): void {
    this.#named(() => {
      this.#identity.refuseGone();
      this.#database.pragma('locking_mode = EXCLUSIVE');
      this.#database.pragma('journal_mode = DELETE');
      this.#identity.removeWal();
    });
  }

  /** Throws StorageCorruptedError if any page is damaged, or an index does not fit its table. Reads the whole file. */
  checkIntegrity(): void {
    this.#named(() => {
      if (this.#database.pragma('integrity_check', { simple: true }) !== 'ok') throw new StorageCorruptedError();
    });
  }

  /** Closes the file. The last process to do so also writes the WAL back and removes it. */
  close(): void {
    if (this.#database.open) this.#database.close();
  }

  #transaction<T>(begin: Database.Statement, work: (nowMs: number) => T): T {
    begin.run();
    try {
      if (begin === this.#beginImmediate) this.#identity.refuseGone();
      // The clock is read under the lock, because a call that had to wait must use the time after its wait.
      const result = work(this.now());
      this.#commit.run();
      return result;
    } finally {
      if (this.#database.inTransaction) this.#rollback.run();
    }
  }

  #named<T>(work: () => T): T {
    if (!this.#database.open) throw new ClosedError();
    try {
      return work();
    } catch (error) {
      // SQLITE_ERROR: no such table, because a move of the storage began after it was opened.
      const moved = isSqliteError(error, 'ERROR') ? movedError(this, this.#settings.path) : null;
      throw moved ?? namedError(error, this.#settings.path, this.#settings.busyTimeoutMs);
    }
  }
}

/** Returns a plain Uint8Array on the bytes of a row, without a copy. The driver keeps no reference to them. */
export function toBytes(blob: Uint8Array): Uint8Array {
  return new Uint8Array(blob.buffer, blob.byteOffset, blob.byteLength);
}
