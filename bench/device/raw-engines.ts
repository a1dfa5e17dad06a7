import { randomBytes, randomUUID } from 'node:crypto';
import Database from 'better-sqlite3';
import type { Redis } from 'ioredis';

/** Bytes of a private half with IV and tag: what one vault write carries. */
const ENTRY_BYTES = 2400 + 12 + 16;
/** Entries that are there to be read, and to be taken. */
const ENTRIES = 10_000;

/** What the engine itself needs for the same steps, with the same durability and nothing around them. */
export interface RawEngine {
  /** Stores an entry. */
  write(): unknown;
  /** Reads an entry by its id. */
  read(): unknown;
  /** Takes an entry out and remembers its id, in one step: what a burn and a selection cannot do without. */
  take(): unknown;
}

/** One better-sqlite3 transaction on a SQLCipher 4 file: WAL, synchronous FULL, secure_delete, as the vault has it. */
export function openRawSqlite(path: string): RawEngine & { close(): void } {
  const database = new Database(path);
  database.pragma("cipher = 'sqlcipher'");
  database.pragma('legacy = 4');
  database.pragma(`key = "x'${randomBytes(32).toString('hex')}'"`);
  for (const pragma of ['journal_mode = WAL', 'synchronous = FULL', 'secure_delete = ON']) database.pragma(pragma);
  database.exec('CREATE TABLE entry (id TEXT NOT NULL PRIMARY KEY, bytes BLOB NOT NULL) STRICT');
  const insert = database.prepare('INSERT INTO entry VALUES (?, ?)');
  const select = database.prepare('SELECT * FROM entry WHERE id = ?');
  const put = database.transaction((id: string, bytes: Buffer) => insert.run(id, bytes));
  const ids = Array.from({ length: ENTRIES }, () => randomUUID());
  database.transaction(() => {
    for (const id of ids) insert.run(id, randomBytes(ENTRY_BYTES));
  })();
  database.exec('CREATE TABLE used (id TEXT NOT NULL PRIMARY KEY, until INTEGER NOT NULL) STRICT, WITHOUT ROWID');
  const remove = database.prepare('DELETE FROM entry WHERE id = ? RETURNING *');
  const remember = database.prepare('INSERT INTO used VALUES (?, ?)');
  const take = database.transaction((id: string) => {
    remove.get(id);
    remember.run(id, Date.now());
  });
  const bytes = randomBytes(ENTRY_BYTES);
  const written: string[] = [];
  return {
    write: () => {
      const id = randomUUID();
      written.push(id);
      return put.immediate(id, bytes);
    },
    take: () => take.immediate(written.shift() ?? ids.pop() ?? ''),
    read: () => select.get(ids[Math.floor(Math.random() * ids.length)]),
    close: () => database.close(),
  };
}

/** One ioredis round trip each to the same server with the same fsync policy: HSET, HGETALL, and a MULTI that takes out. */
export async function openRawRedis(redis: Redis): Promise<RawEngine> {
  const key = () => `raw:${randomUUID()}`;
  const keys = Array.from({ length: ENTRIES }, key);
  const fill = redis.pipeline();
  for (const name of keys) fill.hset(name, { bytes: randomBytes(ENTRY_BYTES) });
  await fill.exec();
  const bytes = randomBytes(ENTRY_BYTES);
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
      return redis.multi().hgetallBuffer(name).del(name).zadd('raw:used', Date.now(), name).exec();
    },
  };
}
