import Database from 'better-sqlite3';
import { DeviceError, StorageBusyError, StorageCorruptedError, StorageFullError, UnreachableError } from '../errors';

export function isSqliteError(error: unknown, code: string): boolean {
  return error instanceof Database.SqliteError && (error.code === code || error.code.startsWith(`${code}_`));
}

/** The named error for SQLite's result code, extended codes included; anything else as it is. */
export function namedError(error: unknown, path: string, busyTimeoutMs: number): unknown {
  if (!(error instanceof Database.SqliteError) || error instanceof DeviceError) return error;
  const options = { cause: error };
  const [, primary] = error.code.split('_');
  switch (primary) {
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
    case 'AUTH':
      return new UnreachableError(path, options);
    default:
      return error;
  }
}
