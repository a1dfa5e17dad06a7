import { pbkdf2Sync } from 'node:crypto';
import type Database from 'better-sqlite3';
import { WrongKeyError } from '../errors';
import { keyLiteral, type Secret } from '../secret';
import { BUSY_TIMEOUT_MS, openDatabase, withKeys } from './open';
import { namedError } from './sqlite-errors';

/** SQLCipher 4 derives the key from a passphrase with this many rounds of PBKDF2-HMAC-SHA512 over the file's salt. */
const PASSPHRASE_ROUNDS = 256_000;
const KEY_BYTES = 32;

/**
 * Encrypts every page of the file at an absolute path with another key, in one transaction of SQLite itself. A crash leaves the rollback journal, whose
 * pages are encrypted with the old key, and the next opening with that key rolls everything back. (The WAL cannot do
 * this: its frames would need both keys.)
 */
export function rekeySqlite(file: string, from: Secret, to: Secret): void {
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
  const saltBytes = Buffer.from(salt, 'hex');
  const key = to.reveal((value) =>
    to.kind === 'raw' ? Buffer.from(value) : pbkdf2Sync(value, saltBytes, PASSPHRASE_ROUNDS, KEY_BYTES, 'sha512'),
  );
  const keyAndSalt = keyLiteral(key, saltBytes);
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
    return openDatabase({ path: file, secret: from, create: false }).database;
  } catch (error) {
    if (!(error instanceof WrongKeyError)) throw error;
    try {
      openDatabase({ path: file, secret: to, create: false }).database.close();
      return null;
    } catch {
      throw error;
    }
  }
}
