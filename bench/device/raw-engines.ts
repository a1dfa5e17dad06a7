import { randomBytes, randomUUID } from 'node:crypto';
import Database from 'better-sqlite3';
import type { Redis } from 'ioredis';

/** The bytes of one entry: a private half with IV and tag, or the key and signature of a GOLD coin. */
export const ENTRY_BYTES = { key: 2400 + 12 + 16, coin: 1184 + 2420 } as const;

export type EntryKind = keyof typeof ENTRY_BYTES;

/** The default number of entries of each kind. */
const ENTRIES = 10_000;

/** The raw operations of an engine: the same steps on as many bytes, with the same durability, without the library. */
export interface RawSteps {
  /** Stores an entry. */
  write(): unknown;
  /** Reads an entry by its id. */
  read(): unknown;
  /** Removes an entry and remembers its id in one transaction, the minimum of a burn or a selection. */
  take(): unknown;
}

export type RawEngine = Readonly<Record<EntryKind, RawSteps>>;

/**
 * Opens raw SQLite: each step is one better-sqlite3 transaction on a SQLCipher 4 file with the vault's settings (WAL,
 * synchronous FULL, secure_delete).
 */
export function openRawSqlite(path: string, entries = ENTRIES): RawEngine & { close(): void } {
  const database = new Database(path);
  database.pragma("cipher = 'sqlcipher'");
  database.pragma('legacy = 4');
  database.pragma(`key = "x'${randomBytes(32).toString('hex')}'"`);
  // The cache holds all entries, so that look-ups find their pages decrypted, as in the library.
  const settings = ['journal_mode = WAL', 'synchronous = FULL', 'secure_delete = ON', 'cache_size = -131072'];
  for (const setting of settings) database.pragma(setting);
  return {
    key: sqliteSteps(database, 'key', entries),
    coin: sqliteSteps(database, 'coin', entries),
    close: () => database.close(),
  };
}

function sqliteSteps(database: Database.Database, kind: EntryKind, entries: number): RawSteps {
  database.exec(`CREATE TABLE ${kind}_entry (id TEXT NOT NULL PRIMARY KEY, bytes BLOB NOT NULL) STRICT`);
  database.exec(
    `CREATE TABLE ${kind}_used (id TEXT NOT NULL PRIMARY KEY, until INTEGER NOT NULL) STRICT, WITHOUT ROWID`,
  );
  const insert = database.prepare(`INSERT INTO ${kind}_entry VALUES (?, ?)`);
  const select = database.prepare(`SELECT * FROM ${kind}_entry WHERE id = ?`);
  const remove = database.prepare(`DELETE FROM ${kind}_entry WHERE id = ? RETURNING *`);
  const remember = database.prepare(`INSERT INTO ${kind}_used VALUES (?, ?)`);
  const put = database.transaction((id: string, bytes: Buffer) => insert.run(id, bytes));
  const take = database.transaction((id: string) => {
    remove.get(id);
    remember.run(id, Date.now());
  });
  const ids = Array.from({ length: entries }, () => randomUUID());
  const bytes = randomBytes(ENTRY_BYTES[kind]);
  database.transaction(() => {
    for (const id of ids) insert.run(id, bytes);
  })();
  const written: string[] = [];
  return {
    write: () => {
      const id = randomUUID();
      written.push(id);
      return put.immediate(id, bytes);
    },
    take: () => take.immediate(written.shift() ?? ids.pop() ?? ''),
    read: () => select.get(ids[Math.floor(Math.random() * ids.length)]),
  };
}

/**
 * Opens raw Redis: each step is one ioredis round trip to the same server with the same fsync policy (HSET, HGETALL,
 * and a MULTI that removes an entry).
 */
export async function openRawRedis(redis: Redis, entries = ENTRIES): Promise<RawEngine> {
  return { key: await redisSteps(redis, 'key', entries), coin: await redisSteps(redis, 'coin', entries) };
}

async function redisSteps(redis: Redis, kind: EntryKind, entries: number): Promise<RawSteps> {
  const key = () => `raw:${kind}:${randomUUID()}`;
  const keys = Array.from({ length: entries }, key);
  const bytes = randomBytes(ENTRY_BYTES[kind]);
  const fill = redis.pipeline();
  for (const name of keys) fill.hset(name, { bytes });
  await fill.exec();
  const written: string[] = [];
  return {
    write: () => {
      const name = key();
      written.push(name);
      return redis.hset(name, { bytes });
    },
    read: () => redis.hgetallBuffer(keys[Math.floor(Math.random() * keys.length)] ?? ''),
    take: () => {
      const name = written.shift() ?? keys.pop() ?? '';
      return redis.multi().hgetallBuffer(name).del(name).zadd(`raw:${kind}:used`, Date.now(), name).exec();
    },
  };
}
