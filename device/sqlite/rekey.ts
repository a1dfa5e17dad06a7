import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type Database from 'better-sqlite3';
import { UnreachableError, WrongKeyError } from '../errors';
import type { Secret } from '../secret';
import { BUSY_TIMEOUT_MS, lendKey, openDatabase, withKeys } from './open';
import { namedError } from './sqlite-errors';

/**
 * One transaction of SQLite's own, over every page: a crash leaves the rollback journal, whose pages are encrypted with
 * the old key, and the next opening with that key takes everything back. (The WAL cannot do this: its frames would
 * need both keys.)
 */
export function rekeySqlite(path: string, from: Secret, to: Secret): void {
  const file = resolve(path);
  if (!existsSync(file)) throw new UnreachableError(file, { cause: new Error('There is no such file.') });
  const database = openWithEither(file, from, to);
  if (database === null) return;
  try {
    // From the first access on nobody else gets in, also not between the steps.
    database.pragma('locking_mode = EXCLUSIVE');
    database.pragma('journal_mode = DELETE');
    lendKey(to, (key) => withKeys(database).rekey(key));
    database.pragma('journal_mode = WAL');
  } catch (error) {
    throw namedError(error, file, BUSY_TIMEOUT_MS);
  } finally {
    database.close();
  }
}

/** Null when the storage has the new key already. */
function openWithEither(file: string, from: Secret, to: Secret): Database.Database | null {
  try {
    return openDatabase(file, from);
  } catch (error) {
    if (!(error instanceof WrongKeyError)) throw error;
    try {
      openDatabase(file, to).close();
      return null;
    } catch {
      throw error;
    }
  }
}
