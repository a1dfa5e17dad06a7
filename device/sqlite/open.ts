import { chmodSync, closeSync, existsSync, openSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import Database from 'better-sqlite3';
import type { BudgetTable } from '../contract/budget';
import type { DeviceStorage } from '../contract/device-storage';
import { NotADatabaseError, UnreachableError, WrongKeyError } from '../errors';
import type { Secret } from '../secret';
import { Connection } from './connection';
import { SqliteInventory } from './inventory';
import { migrate, refuseNewerSchema } from './migrate';
import { SqliteOutbox } from './outbox';
import { SqlitePendingRequests } from './pending-requests';
import { isSqliteError, namedError } from './sqlite-errors';
import { SqliteVault } from './vault';

/** How long a statement waits for another process's lock. */
export const BUSY_TIMEOUT_MS = 5_000;
/** SQLCipher 4's page size; every file it makes is a whole number of pages. */
const PAGE_BYTES = 4096;
/** Processes that make one new file at the same moment; each loser needs one more attempt. */
const CREATION_ATTEMPTS = 5;

export interface SqliteSettings {
  readonly path: string;
  readonly secret: Secret;
  readonly now: () => Date;
  readonly budgets: BudgetTable;
  readonly busyTimeoutMs?: number;
}

export function openSqlite(settings: SqliteSettings): DeviceStorage {
  const { budgets } = settings;
  const connection = openConnection(settings);
  try {
    connection.refuseFenced();
    return {
      backend: 'sqlite',
      vault: new SqliteVault(connection),
      inventory: new SqliteInventory(connection, budgets),
      outbox: new SqliteOutbox(connection),
      pendingRequests: new SqlitePendingRequests(connection, budgets),
      cleanUp: async () => connection.checkpoint(),
      close: async () => connection.close(),
    };
  } catch (error) {
    connection.close();
    throw error;
  }
}

/** The file made, unlocked, set up and migrated. */
export function openConnection({ path, secret, now, busyTimeoutMs = BUSY_TIMEOUT_MS }: SqliteSettings): Connection {
  const file = resolve(path);
  return new Connection(openDatabase(file, secret, busyTimeoutMs), { path: file, busyTimeoutMs, now });
}

/** Throws the errors of opening. */
export function openDatabase(file: string, secret: Secret, busyTimeoutMs = BUSY_TIMEOUT_MS): Database.Database {
  for (let attempt = 1; ; attempt += 1) {
    const wasEmpty = ensureFile(file);
    let database: Database.Database | undefined;
    try {
      database = new Database(file, { timeout: busyTimeoutMs, fileMustExist: true });
      unlock(database, secret);
      // The first read: a wrong key shows here. Nothing is written before the layout is known.
      refuseNewerSchema(database);
      configure(database);
      migrate(database);
      return database;
    } catch (error) {
      database?.close();
      const notADatabase = isSqliteError(error, 'NOTADB');
      // The file was empty, and another process has begun it, with a salt of its own, since.
      const raced = wasEmpty && (notADatabase || isSqliteError(error, 'BUSY'));
      if (raced && attempt < CREATION_ATTEMPTS) continue;
      throw notADatabase ? whyNot(file, error) : namedError(error, file, busyTimeoutMs);
    }
  }
}

/**
 * Makes the file when it is missing, readable for its owner only; its -wal and -shm files inherit the mode. A file
 * that is there is never opened here: closing it would drop the locks of this process's other connections to it.
 * @returns whether the file is still empty.
 */
function ensureFile(file: string): boolean {
  try {
    // Not existing and being made by another process are the same here: `a` never truncates.
    if (!existsSync(file)) closeSync(openSync(file, 'a', 0o600));
    const empty = statSync(file).size === 0;
    if (empty) chmodSync(file, 0o600);
    return empty;
  } catch (error) {
    throw new UnreachableError(file, { cause: error });
  }
}

/** Cipher and key come before anything else. */
function unlock(database: Database.Database, secret: Secret): void {
  database.pragma("cipher = 'sqlcipher'");
  // The file format of SQLCipher 4, so that any SQLCipher 4 opens the file with the same key.
  database.pragma('legacy = 4');
  secret.reveal((value) => {
    const key = secret.kind === 'raw' ? Buffer.from(`x'${Buffer.from(value).toString('hex')}'`) : Buffer.from(value);
    withKeys(database).key(key);
    key.fill(0);
  });
}

/** Keys as bytes: no SQL text ever holds them. */
interface Keyed {
  key(key: Buffer): number;
  rekey(key: Buffer): number;
}

export function withKeys(database: Database.Database): Database.Database & Keyed {
  return database as Database.Database & Keyed;
}

function configure(database: Database.Database): void {
  // Statement journals and sorts would else write pages in the clear to temporary files.
  database.pragma('temp_store = MEMORY');
  database.pragma('journal_mode = WAL');
  // At most 64 MB of decrypted pages in memory, taken page by page as they are read: about 8 MB at 1,000 coins, and all
  // private halves of 10,000. A page that is not there costs a read, a decryption and an HMAC (npm run bench -- device).
  database.pragma('cache_size = -65536');
  // The WAL goes back into the file every 2,000 pages (8 MB) instead of 1,000: with six to eight pages a write that is
  // less than one write in a hundred, so that its cost stays out of the p99.
  database.pragma('wal_autocheckpoint = 2000');
  // Promise 8: a commit has reached the disk when it returns. NORMAL would sync at checkpoints only.
  database.pragma('synchronous = FULL');
  // On macOS fsync alone stops at the drive's cache; elsewhere this does nothing.
  database.pragma('fullfsync = ON');
  // Promise 6: what is deleted is overwritten with zeros in its page.
  database.pragma('secure_delete = ON');
}

/** Why a file cannot be opened, as far as it can be told: a foreign file of whole pages looks like one of ours. */
function whyNot(file: string, cause: unknown): Error {
  const options = { cause };
  if (isPlainSqlite(file)) return new NotADatabaseError(file, 'an SQLite file without encryption', options);
  const { size } = statSync(file);
  if (size % PAGE_BYTES !== 0) {
    return new NotADatabaseError(file, `a file of ${size} bytes, not of whole ${PAGE_BYTES}-byte pages`, options);
  }
  return new WrongKeyError(file, options);
}

function isPlainSqlite(file: string): boolean {
  const database = new Database(file, { readonly: true, fileMustExist: true });
  try {
    database.pragma('schema_version');
    return true;
  } catch {
    return false;
  } finally {
    database.close();
  }
}
