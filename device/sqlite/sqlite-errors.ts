import { StorageBusyError, StorageCorruptedError, StorageFullError, UnreachableError } from '../errors';

interface SqliteFailure extends Error {
  /** The name of the result code, extended where SQLite has an extended one: SQLITE_BUSY, SQLITE_IOERR_FSYNC. */
  readonly code: string;
}

/**
 * Recognizes an error of SQLite by its shape. `instanceof` does not work: the binding is loaded once per process, but
 * its error class once per module registry.
 */
function isSqliteFailure(error: unknown): error is SqliteFailure {
  if (typeof error !== 'object' || error === null || !('code' in error)) return false;
  return typeof error.code === 'string' && error.code.startsWith('SQLITE_');
}

/** Returns the primary part of a result code: IOERR for SQLITE_IOERR_FSYNC. */
function primaryCode(error: SqliteFailure): string {
  return error.code.split('_')[1] ?? '';
}

/** Returns true for an error of SQLite with this primary result code, such as BUSY. */
export function isSqliteError(error: unknown, primary: string): boolean {
  return isSqliteFailure(error) && primaryCode(error) === primary;
}

/** Maps an error of SQLite to a named error of this library. Other errors pass through unchanged. */
export function namedError(error: unknown, path: string, busyTimeoutMs: number): unknown {
  if (!isSqliteFailure(error)) return error;
  const options = { cause: error };
  switch (primaryCode(error)) {
    case 'FULL':
      return new StorageFullError(options);
    case 'BUSY':
    case 'LOCKED':
    case 'PROTOCOL':
      return new StorageBusyError(busyTimeoutMs, options);
    // Once the storage was opened, a page that fails its authentication is reported as "not a database".
    case 'CORRUPT':
    case 'NOTADB':
      return new StorageCorruptedError(options);
    case 'IOERR':
    case 'READONLY':
    case 'CANTOPEN':
    case 'PERM':
      return new UnreachableError(path, options);
    default:
      return error;
  }
}
