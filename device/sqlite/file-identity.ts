import { existsSync, type Stats, statSync } from 'node:fs';
import { StorageMissingError, UnreachableError } from '../errors';

const FULL_CHECK_INTERVAL_MS = 1_000;

/**
 * The files of an open storage, by device and inode, to notice when one was removed or replaced. SQLite goes on with the
 * files that it has opened, and what it writes there is gone when they are closed. (SQLite answers this question itself,
 * SQLITE_FCNTL_HAS_MOVED, but the driver does not pass it on.)
 */
export class FileIdentity {
  readonly #path: string;
  #walPath: string | null;
  readonly #file: Inode | undefined;
  #wal: Inode | undefined;
  #checkedAt = Number.NEGATIVE_INFINITY;

  /** Reads the identity of the database file. Must be called before SQLite opens it. */
  constructor(path: string) {
    this.#path = path;
    this.#walPath = `${path}-wal`;
    this.#file = inodeOf(path);
  }

  /**
   * Throws StorageMissingError if a file was removed, or if the database was replaced. Costs about 4 µs. A -wal that was
   * replaced alone is noticed within a second: Linux gives a file whose times were read a new time at its next write,
   * so that reading them before every write would cost every fsync a journal entry (a tenth of the time of a write on
   * ext4, npm run bench -- device-versions).
   */
  refuseGoneBeforeWrite(): void {
    const nowMs = performance.now();
    if (nowMs - this.#checkedAt > FULL_CHECK_INTERVAL_MS) {
      this.refuseGone();
      this.#checkedAt = nowMs;
      return;
    }
    refuseOther(this.#path, this.#file);
    if (this.#walPath !== null && !existsSync(this.#walPath)) throw new StorageMissingError(this.#walPath);
  }

  /**
   * Throws StorageMissingError if a file was removed or replaced. The -wal joins at the first call: it exists from the
   * first read on, and SQLite keeps it until the last process closes the storage.
   */
  refuseGone(): void {
    refuseOther(this.#path, this.#file);
    if (this.#walPath === null) return;
    this.#wal ??= inodeOf(this.#walPath);
    refuseOther(this.#walPath, this.#wal);
  }

  /** Called when this process itself has removed the -wal, by leaving the WAL mode. */
  removeWal(): void {
    this.#walPath = null;
  }
}

type Inode = Pick<Stats, 'dev' | 'ino'>;

function refuseOther(path: string, expected: Inode | undefined): void {
  const found = inodeOf(path);
  if (expected?.ino !== found?.ino || expected?.dev !== found?.dev || found === undefined)
    throw new StorageMissingError(path);
}

function inodeOf(path: string): Inode | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (cause) {
    throw new UnreachableError(path, { cause });
  }
}
