import { closeSync, openSync, type Stats, statSync } from 'node:fs';
import Database from 'better-sqlite3';
import type { BudgetTable } from '../contract/budget';
import type { DeviceStorage } from '../contract/device-storage';
import type { ClockSettings } from '../contract/trusted-clock';
import { withValidation } from '../contract/validated-storage';
import { NotADatabaseError, StorageMissingError, UnreachableError, WrongKeyError } from '../errors';
import { keyLiteral, type Secret } from '../secret';
import { emitWarning } from '../warning';
import { backUp } from './backup';
import { Connection, PAGE_BYTES } from './connection';
import { DiskReserve } from './disk-reserve';
import { FileIdentity } from './file-identity';
import { beginGeneration } from './generation';
import { SqliteInventory } from './inventory';
import { migrate, refuseNewerSchema } from './migrate';
import { SqliteOutbox } from './outbox';
import { SqliteOwner } from './owner';
import { SqlitePendingRequests } from './pending-requests';
import { isSqliteError, namedError } from './sqlite-errors';
import { SqliteVault } from './vault';

/** A statement waits for another process's lock for at most this time. */
export const BUSY_TIMEOUT_MS = 5_000;
/**
 * Attempts at opening a file. Of the processes that create it at the same moment, each loser needs one more, and so does
 * a process that opens it while it is replaced.
 */
const OPENING_ATTEMPTS = 5;
/** A file that was written within this time may be one that another process is just creating. */
const NEW_FILE_MS = 1_000;

export interface SqliteSettings extends Omit<ClockSettings, 'onWarning'>, Partial<Pick<ClockSettings, 'onWarning'>> {
  /** An absolute path. */
  readonly path: string;
  /** See CommonConfig. */
  readonly create?: boolean;
  /** See SqliteConfig. */
  readonly generation?: number;
  readonly secret: Secret;
  readonly budgets: BudgetTable;
  readonly busyTimeoutMs?: number;
}

/** Opens the storage, and creates the file if it is missing and may be created. Throws the errors of opening. */
export function openSqlite(settings: SqliteSettings): DeviceStorage {
  const { budgets } = settings;
  const connection = openConnection(settings);
  try {
    connection.refuseMoved();
    let generation = beginGeneration(connection, settings.path, settings.generation);
    connection.makeReserve();
    return withValidation({
      backend: 'sqlite',
      get generation() {
        return generation;
      },
      vault: new SqliteVault(connection),
      inventory: new SqliteInventory(connection, budgets),
      outbox: new SqliteOutbox(connection),
      pendingRequests: new SqlitePendingRequests(connection, budgets),
      clock: {
        now: () => connection.times().nowMs,
        check: async () => connection.checkClock(),
        nowToStore: () => connection.nowToStore(),
        confirm: async (time) => connection.changeClock((clock) => clock.confirm(time.getTime())),
      },
      owner: new SqliteOwner(connection),
      backUp: async (target) =>
        backUp(connection, settings.path, target, () => {
          generation = beginGeneration(connection, settings.path);
        }),
      cleanUp: async () => connection.checkpoint(),
      close: async () => connection.close(),
    });
  } catch (error) {
    connection.close();
    throw error;
  }
}

/** Creates the file if it is missing, unlocks it, configures the connection and migrates the schema. */
export function openConnection(settings: SqliteSettings): Connection {
  const { busyTimeoutMs = BUSY_TIMEOUT_MS, onWarning = emitWarning } = settings;
  const { database, identity } = openDatabase(settings);
  return new Connection(database, identity, { ...settings, busyTimeoutMs, onWarning });
}

/** An open file. */
export interface OpenDatabase {
  readonly database: Database.Database;
  readonly identity: FileIdentity;
}

/** Opens the file, and repeats that if another process created it at the same moment. Throws the errors of opening. */
export function openDatabase({
  path,
  secret,
  create,
  busyTimeoutMs = BUSY_TIMEOUT_MS,
}: Pick<SqliteSettings, 'path' | 'secret' | 'create' | 'busyTimeoutMs'>): OpenDatabase {
  for (let attempt = 1; ; attempt += 1) {
    const wasEmpty = ensureFile(path, create);
    let database: Database.Database | undefined;
    try {
      const identity = new FileIdentity(path);
      database = new Database(path, { timeout: busyTimeoutMs, fileMustExist: true });
      unlock(database, secret);
      // The first read, which fails if the key is wrong. Nothing is written before the layout is known.
      refuseNewerSchema(database);
      configure(database);
      migrate(database);
      // Fails if the file was replaced since its identity was read, because another one may have been opened then.
      identity.refuseGone();
      return { database, identity };
    } catch (error) {
      database?.close();
      const notADatabase = isSqliteError(error, 'NOTADB');
      // The file was empty, and another process has created it since, with a salt of its own.
      const raced = wasEmpty && (notADatabase || isSqliteError(error, 'BUSY'));
      // Or it was created a moment ago, and its first pages were still being written. Another PBKDF2 would be too slow.
      const isNew =
        notADatabase &&
        secret.kind === 'raw' &&
        attempt === 1 &&
        Date.now() - (statsOf(path)?.mtimeMs ?? 0) < NEW_FILE_MS;
      // SQLite reports a full disk as an I/O error if it is its shared memory that does not fit.
      const isFull = isSqliteError(error, 'FULL') || isSqliteError(error, 'IOERR');
      const hasRoomNow = isFull && new DiskReserve(path).release();
      const isWorthRepeating = raced || isNew || hasRoomNow || error instanceof StorageMissingError;
      if (isWorthRepeating && attempt < OPENING_ATTEMPTS) continue;
      throw notADatabase ? whyNot(path, error) : namedError(error, path, busyTimeoutMs);
    }
  }
}

/**
 * Creates the file if it is missing and may be created, readable by its owner only; its -wal and -shm files inherit the
 * mode. The mode of a file that is there is never changed, and it is never opened here: closing it would drop the locks
 * of this process's other connections to it.
 * @returns true if the file is still empty.
 */
function ensureFile(file: string, create: boolean | undefined): boolean {
  // Looked at first: a process that creates the storage writes its first page before it makes the -wal.
  const hasWal = (statsOf(`${file}-wal`)?.size ?? 0) > 0;
  const stats = statsOf(file);
  if (stats?.isDirectory()) throw new UnreachableError(file, { cause: new Error('The path is a folder.') });
  if (stats?.isFile() === false) throw new NotADatabaseError(file, 'a device, a pipe or a socket');
  if (stats !== undefined && stats.size > 0) return false;
  // SQLite would delete the -wal, although it holds everything since the last checkpoint.
  if (create === false || (create === undefined && hasWal)) throw new StorageMissingError(file);
  try {
    // The mode `a` never truncates, so it makes no difference if another process creates the file first.
    if (stats === undefined) closeSync(openSync(file, 'a', 0o600));
  } catch (error) {
    throw new UnreachableError(file, { cause: error });
  }
  return true;
}

/** Throws StorageMissingError unless there is a file with content, and the errors of opening if it cannot be one. */
export function refuseMissing(file: string): void {
  ensureFile(file, false);
}

function statsOf(file: string): Stats | undefined {
  try {
    return statSync(file, { throwIfNoEntry: false });
  } catch (error) {
    throw new UnreachableError(file, { cause: error });
  }
}

/** Sets the cipher and the key, which SQLite needs before any other statement. */
function unlock(database: Database.Database, secret: Secret): void {
  database.pragma("cipher = 'sqlcipher'");
  // The file format of SQLCipher 4, so that any SQLCipher 4 opens the file with the same key.
  database.pragma('legacy = 4');
  secret.reveal((value) => {
    const key = secret.kind === 'raw' ? keyLiteral(value) : Buffer.from(value);
    try {
      withKeys(database).key(key);
    } finally {
      key.fill(0);
    }
  });
}

/** The driver's methods that take a key as bytes, so that no SQL text ever holds it. */
interface Keyed {
  key(key: Buffer): number;
  rekey(key: Buffer): number;
}

export function withKeys(database: Database.Database): Database.Database & Keyed {
  return database as Database.Database & Keyed;
}

function configure(database: Database.Database): void {
  // Otherwise statement journals and sorts would write unencrypted pages to temporary files.
  database.pragma('temp_store = MEMORY');
  database.pragma('journal_mode = WAL');
  // At most 64 MB of decrypted pages in memory, allocated as pages are read: about 8 MB at 1,000 coins, and enough for
  // all private halves of 10,000. A page that is not cached costs a read, a decryption and an HMAC (npm run bench -- device).
  database.pragma('cache_size = -65536');
  // The WAL is written back every 2,000 pages (8 MB) instead of 1,000. A write takes four to eight pages, so fewer than
  // one write in a hundred pays for it, and its cost stays out of the p99.
  database.pragma('wal_autocheckpoint = 2000');
  // Promise 8: a commit has reached the disk when it returns. NORMAL would sync at checkpoints only.
  database.pragma('synchronous = FULL');
  // On macOS fsync alone stops at the drive's cache; elsewhere this has no effect.
  database.pragma('fullfsync = ON');
  // Promise 6: deleted content is overwritten with zeros in its page.
  database.pragma('secure_delete = ON');
}

/** Finds out why a file cannot be opened. A foreign file of whole pages cannot be told from one with another key. */
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
