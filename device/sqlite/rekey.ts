import { pbkdf2Sync } from 'node:crypto';
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type Database from 'better-sqlite3';
import { UnreachableError, WrongKeyError } from '../errors';
import type { Secret } from '../secret';
import { BUSY_TIMEOUT_MS, openDatabase, withKeys } from './open';
import { namedError } from './sqlite-errors';

/** SQLCipher 4 derives the key from a passphrase with this many rounds of PBKDF2-HMAC-SHA512 over the file's salt. */
const PASSPHRASE_ROUNDS = 256_000;
const KEY_BYTES = 32;

/**
 * Encrypts every page with another key, in one transaction of SQLite itself. A crash leaves the rollback journal, whose
 * pages are encrypted with the old key, and the next opening with that key rolls everything back. (The WAL cannot do
 * this: its frames would need both keys.)
 */
export function rekeySqlite(path: string, from: Secret, to: Secret): void {
  const file = resolve(path);
  if (!existsSync(file)) throw new UnreachableError(file, { cause: new Error('There is no such file.') });
  const database = openWithEither(file, from, to);
  if (database === null) return;
  try {
    // From the first access on no other connection can use the file, not even between the steps.
    database.pragma('locking_mode = EXCLUSIVE');
    database.pragma('journal_mode = DELETE');
    rekeyWithSameSalt(database, to);
    database.pragma('journal_mode = WAL');
  } catch (error) {
    throw namedError(error, file, BUSY_TIMEOUT_MS);
  } finally {
    database.close();
  }
}

/**
 * Changes the key and keeps the file's salt. With a new salt, which is the default, a process killed while pages are
 * replaced leaves a first page with one salt and a journal with another. Every key is derived with the salt of the
 * first page, so neither key opens the file then (5 of 60 kills).
 */
function rekeyWithSameSalt(database: Database.Database, to: Secret): void {
  const salt = database.prepare<[], string>("SELECT sqlite3mc_codec_data('cipher_salt')").pluck().get() ?? '';
  const key = to.reveal((value) =>
    to.kind === 'raw'
      ? Buffer.from(value)
      : pbkdf2Sync(value, Buffer.from(salt, 'hex'), PASSPHRASE_ROUNDS, KEY_BYTES, 'sha512'),
  );
  const keyAndSalt = Buffer.from(`x'${key.toString('hex')}${salt}'`);
  try {
    withKeys(database).rekey(keyAndSalt);
  } finally {
    key.fill(0);
    keyAndSalt.fill(0);
  }
}

/** Opens the file with the old key. Returns null if it already has the new one. */
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
