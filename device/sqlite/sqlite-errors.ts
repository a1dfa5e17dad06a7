import { StorageBusyError, StorageCorruptedError, StorageFullError, UnreachableError } from '../errors';

interface SqliteFailure extends Error {
  /** The result code by name, extended where SQLite has one: SQLITE_BUSY, SQLITE_IOERR_FSYNC. */
  readonly code: string;
}

/** By shape: the binding is loaded once per process, its error class once per module registry. */
function isSqliteFailure(error: unknown): error is SqliteFailure {
  if (typeof error !== 'object' || error === null || !('code' in error)) return false;
  return typeof error.code === 'string' && error.code.startsWith('SQLITE_');
}

/** SQLITE_IOERR_FSYNC is an IOERR. */
function primaryCode(error: SqliteFailure): string {
  return error.code.split('_')[1] ?? '';
}

export function isSqliteError(error: unknown, primary: string): boolean {
  return isSqliteFailure(error) && primaryCode(error) === primary;
}

/** The named error for SQLite's result code; anything else as it is. */
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
    // A page that fails its authentication reads as "not a database" once the storage has been opened.
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
