import { statSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import type Database from 'better-sqlite3';
import { type ClockSettings, type Times, TrustedClock } from '../contract/trusted-clock';
import { ClosedError, StorageBusyError, StorageCorruptedError, StorageFullError } from '../errors';
import { DiskReserve } from './disk-reserve';
import type { FileIdentity } from './file-identity';
import { movedError } from './move-state';
import { isSqliteError, namedError } from './sqlite-errors';

export interface ConnectionSettings extends ClockSettings {
  readonly path: string;
  readonly busyTimeoutMs: number;
}

/** The time between two attempts at getting the write lock. SQLite itself waits for 10 ms in each. */
const RETRY_MS = 10;
/** SQLCipher 4's page size. Every file it makes is a whole number of pages. */
export const PAGE_BYTES = 4096;
/** Records that may be added before the reserve is compared with the WAL. Their space is part of the reserve itself. */
const COVERED_RECORDS = 16;

/** The options of a transaction. */
export interface WriteOptions {
  /**
   * The number of records that the work may add. If it adds any, it fails on a full disk and leaves the reserve to the
   * others. Default: 0.
   */
  readonly adds?: number;
}

/** The work of one transaction, which gets the times of Times. */
export type Work<T> = (nowMs: number, forgetMs: number, trustedMs: number) => T;

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
  readonly #clock: TrustedClock;
  readonly #reserve: DiskReserve;
  readonly #pageCount: Database.Statement<[], number>;
  /** False while the disk has no space for the reserve. */
  #isCovered = true;
  /** The number of records that were added since the reserve was last compared with the WAL. */
  #addedRecords = 0;
  #knowsTrustedTime = false;
  readonly #readAgain = () => this.#readTrustedTime();
  readonly #trustedAt: Database.Statement<[], string>;
  readonly #saveTrustedAt: Database.Statement<[string]>;

  constructor(database: Database.Database, identity: FileIdentity, settings: ConnectionSettings) {
    this.#database = database;
    this.#identity = identity;
    this.#settings = settings;
    this.#clock = new TrustedClock(settings);
    this.#reserve = new DiskReserve(settings.path);
    this.#trustedAt = database.prepare<[], string>(`SELECT value FROM device_record WHERE name = 'trusted_at'`).pluck();
    this.#saveTrustedAt = database.prepare(
      `INSERT INTO device_record (name, value) VALUES ('trusted_at', ?)
       ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
    );
    this.#pageCount = database.prepare<[], number>('PRAGMA page_count').pluck();
    // Short, because SQLite blocks the process meanwhile. Longer waits are loops of this class.
    database.pragma('busy_timeout = 10');
    this.#begin = database.prepare('BEGIN');
    this.#beginImmediate = database.prepare('BEGIN IMMEDIATE');
    this.#commit = database.prepare('COMMIT');
    this.#rollback = database.prepare('ROLLBACK');
  }

  /** Prepares a statement. The engine does so once for each, when the storage is opened. */
  prepare<Parameters extends unknown[], Row = unknown>(sql: string): Database.Statement<Parameters, Row> {
    return this.#database.prepare<Parameters, Row>(sql);
  }

  /** Returns the times for one operation. */
  times(): Times {
    if (!this.#knowsTrustedTime) this.#readTrustedTime();
    return this.#clock.times(this.#readAgain);
  }

  /** Throws ClockError if the device's clock is not trusted, by the time that the storage keeps now. */
  checkClock(): void {
    this.#named(() => {
      this.#readTrustedTime();
      this.#clock.check();
    });
  }

  /** See EngineClock. */
  nowToStore(): number {
    return this.#named(() => {
      const { nowMs } = this.times();
      this.#clock.refuseBehind();
      return nowMs;
    });
  }

  /** Changes the trusted time, and saves it also if the change ends with an error. */
  async changeClock(change: (clock: TrustedClock) => void): Promise<void> {
    let failure: unknown;
    await this.write(() => {
      this.#readTrustedTime();
      try {
        change(this.#clock);
      } catch (error) {
        failure = error;
      }
    });
    if (failure !== undefined) throw failure;
  }

  /** Runs one statement that reads. */
  read<T>(work: Work<T>): T {
    return this.#waiting(() => {
      const { nowMs, forgetMs, trustedMs } = this.times();
      return work(nowMs, forgetMs, trustedMs);
    });
  }

  /** Runs several statements that read, in one transaction, so that all see the same state. */
  readTogether<T>(work: Work<T>): T {
    return this.#waiting(() => this.#transaction(this.#begin, work));
  }

  /**
   * Like readTogether, for a result that others act on as complete. Throws StorageMissingError if the file was removed
   * or replaced. The other reads do not look, because that would cost them up to a quarter of their time.
   */
  readComplete<T>(work: Work<T>): T {
    this.#named(() => this.#identity.refuseGone());
    return this.readTogether(work);
  }

  /**
   * Runs one transaction, which is on disk when this returns. It takes the write lock at its beginning: a transaction
   * that reads and then writes would fail instead of waiting if another process wrote in between. Throws
   * StorageMissingError if the file was removed or replaced, because the write would be lost. Work that adds no data
   * also has the disk's reserve.
   */
  async write<T>(work: Work<T>, options?: WriteOptions): Promise<T> {
    let giveUpAt: number | undefined;
    for (;;) {
      try {
        return this.#write(work, options);
      } catch (error) {
        giveUpAt ??= performance.now() + this.#settings.busyTimeoutMs;
        if (!(error instanceof StorageBusyError) || performance.now() >= giveUpAt) throw error;
      }
      // Other work of this process goes on while another process holds the lock.
      await setTimeout(RETRY_MS);
    }
  }

  /** Like `write`, but blocks the process while it waits for another one. For opening, backups and restores. */
  writeNow<T>(work: Work<T>): T {
    return this.#waiting(() => this.#write(work));
  }

  #write<T>(work: Work<T>, { adds = 0 }: WriteOptions = {}): T {
    if (adds > 0) return this.#add(work, adds);
    try {
      return this.#writeOnce(work);
    } catch (error) {
      if (!(error instanceof StorageFullError)) throw error;
    }
    this.#reserve.release();
    try {
      // Gives the space of the WAL back too. It may not succeed while another process reads or writes.
      this.#database.pragma('wal_checkpoint(TRUNCATE)');
    } catch (error) {
      if (!isSqliteError(error, 'FULL')) throw namedError(error, this.#settings.path, this.#settings.busyTimeoutMs);
    }
    try {
      return this.#writeOnce(work);
    } finally {
      this.#coverReserve();
    }
  }

  #add<T>(work: Work<T>, adds: number): T {
    if (!this.#database.open) throw new ClosedError();
    const isLarge = adds > COVERED_RECORDS;
    if ((isLarge || !this.#isCovered) && !this.#coverReserve(isLarge ? adds : 0)) throw new StorageFullError();
    const result = this.#writeOnce(work);
    this.#addedRecords += adds;
    if (this.#addedRecords >= COVERED_RECORDS) this.#coverReserve();
    return result;
  }

  /** Makes the reserve of a storage that was opened. */
  makeReserve(): void {
    this.#reserve.shrink();
    this.#coverReserve();
  }

  /**
   * Makes the reserve large enough for what the WAL holds and will hold after more records, so that the operations that
   * free space work on a full disk. Returns false if the disk is full; then nothing is added until it succeeds.
   */
  #coverReserve(moreRecords = 0): boolean {
    this.#addedRecords = 0;
    const databaseBytes = (this.#pageCount.get() ?? 0) * PAGE_BYTES;
    const fileBytes = statSync(this.#settings.path, { throwIfNoEntry: false })?.size ?? databaseBytes;
    const growthBytes = Math.max(0, databaseBytes - fileBytes) + moreRecords * 2 * PAGE_BYTES;
    this.#isCovered = this.#reserve.cover(growthBytes);
    return this.#isCovered;
  }

  #writeOnce<T>(work: Work<T>): T {
    return this.#named(() => {
      let savedMs: number | null = null;
      const result = this.#transaction(this.#beginImmediate, (nowMs, forgetMs, trustedMs) => {
        const worked = work(nowMs, forgetMs, trustedMs);
        savedMs = this.#clock.unsavedMs;
        if (savedMs !== null) this.#saveTrustedAt.run(String(savedMs));
        return worked;
      });
      if (savedMs !== null) this.#clock.saved(savedMs);
      return result;
    });
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
    this.#waiting(() => {
      this.#identity.refuseGone();
      const [result] = this.#database.pragma('wal_checkpoint(TRUNCATE)') as { readonly busy: number }[];
      if (result?.busy !== 0) throw new StorageBusyError(this.#settings.busyTimeoutMs);
    });
  }

  /** Writes a consistent copy, encrypted with the same key, into an empty file. Other processes may go on writing. */
  copyTo(file: string): void {
    this.#waiting(() => {
      this.#identity.refuseGone();
      this.#database.prepare('VACUUM INTO ?').run(file);
    });
  }

  /**
   * Keeps every other connection out until this one is closed, and turns the WAL into part of the file. Throws
   * StorageBusyError if another connection is open.
   */
  lockOthersOut(): void {
    this.#waiting(() => {
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

  /** Repeats what another process's lock keeps from being done, without giving other work of this process a turn. */
  #waiting<T>(work: () => T): T {
    let giveUpAt: number | undefined;
    for (;;) {
      try {
        return this.#named(work);
      } catch (error) {
        giveUpAt ??= performance.now() + this.#settings.busyTimeoutMs;
        if (!(error instanceof StorageBusyError) || performance.now() >= giveUpAt) throw error;
      }
    }
  }

  #readTrustedTime(): void {
    const value = this.#trustedAt.get();
    this.#clock.adopt(value === undefined ? null : Number(value));
    this.#knowsTrustedTime = true;
  }

  #transaction<T>(begin: Database.Statement, work: Work<T>): T {
    begin.run();
    try {
      if (begin === this.#beginImmediate) this.#identity.refuseGoneBeforeWrite();
      // The clock is read under the lock, because a call that had to wait must use the time after its wait.
      const { nowMs, forgetMs, trustedMs } = this.times();
      const result = work(nowMs, forgetMs, trustedMs);
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
