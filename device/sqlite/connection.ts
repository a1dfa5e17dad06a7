import type Database from 'better-sqlite3';
import { ClosedError, InvalidArgumentError, StorageBusyError } from '../errors';
import { movedError } from './move-state';
import { isSqliteError, namedError } from './sqlite-errors';

export interface ConnectionSettings {
  readonly path: string;
  readonly busyTimeoutMs: number;
  readonly now: () => Date;
}

/**
 * One open database file. Everything that reads or writes goes through `read` and `write`, so that after close it is a
 * ClosedError, and a failure of SQLite is a named error with nothing half-written.
 */
export class Connection {
  readonly #database: Database.Database;
  readonly #settings: ConnectionSettings;
  readonly #begin: Database.Statement;
  readonly #beginImmediate: Database.Statement;
  readonly #commit: Database.Statement;
  readonly #rollback: Database.Statement;

  constructor(database: Database.Database, settings: ConnectionSettings) {
    this.#database = database;
    this.#settings = settings;
    this.#begin = database.prepare('BEGIN');
    this.#beginImmediate = database.prepare('BEGIN IMMEDIATE');
    this.#commit = database.prepare('COMMIT');
    this.#rollback = database.prepare('ROLLBACK');
  }

  /** Statements are prepared once, when the storage is opened. */
  prepare<Parameters extends unknown[], Row = unknown>(sql: string): Database.Statement<Parameters, Row> {
    return this.#database.prepare<Parameters, Row>(sql);
  }

  /** The injected clock, in milliseconds since 1970. */
  now(): number {
    const nowMs = this.#settings.now().getTime();
    if (Number.isNaN(nowMs)) throw new InvalidArgumentError('now', 'must return a valid Date');
    return nowMs;
  }

  /** One statement that reads. */
  read<T>(work: (nowMs: number) => T): T {
    return this.#named(() => work(this.now()));
  }

  /** Several statements that read, all of the same moment. */
  readTogether<T>(work: (nowMs: number) => T): T {
    return this.#named(() => this.#transaction(this.#begin, work));
  }

  /**
   * One transaction that is on disk when this returns. It takes the write lock first: a transaction that reads and
   * then writes would fail, not wait, when another process wrote in between.
   */
  write<T>(work: (nowMs: number) => T): T {
    return this.#named(() => this.#transaction(this.#beginImmediate, work));
  }

  /** Throws StorageMovedError unless the storage is in use. */
  refuseFenced(): void {
    const moved = this.read(() => movedError(this, this.#settings.path));
    if (moved !== null) throw moved;
  }

  /**
   * Empties the WAL, with its older images of pages, into the file. Throws StorageBusyError when another process reads
   * or writes all the time.
   */
  checkpoint(): void {
    this.#named(() => {
      const [result] = this.#database.pragma('wal_checkpoint(TRUNCATE)') as { readonly busy: number }[];
      if (result?.busy !== 0) throw new StorageBusyError(this.#settings.busyTimeoutMs);
    });
  }

  /** The last process to close also empties the WAL into the file and removes it. */
  close(): void {
    if (this.#database.open) this.#database.close();
  }

  #transaction<T>(begin: Database.Statement, work: (nowMs: number) => T): T {
    begin.run();
    try {
      // The clock is read under the lock: whoever waited for it must not act on the time before.
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
      // SQLITE_ERROR: no such table, for a copy of the storage began since it was opened.
      const moved = isSqliteError(error, 'ERROR') ? movedError(this, this.#settings.path) : null;
      throw moved ?? namedError(error, this.#settings.path, this.#settings.busyTimeoutMs);
    }
  }
}

/** A plain Uint8Array on the bytes of a row, which belong to nobody else; not copied. */
export function toBytes(blob: Uint8Array): Uint8Array {
  return new Uint8Array(blob.buffer, blob.byteOffset, blob.byteLength);
}
