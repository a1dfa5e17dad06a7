import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type DeviceStorage, openDeviceStorage } from '../../device';
import { RedisServer } from '../../testkit/redis-server';
import { openRawRedis, openRawSqlite, type RawEngine } from './raw-engines';

export interface Bench {
  readonly name: string;
  readonly storage: DeviceStorage;
  /** Moves the storage's injected clock, in milliseconds. */
  readonly clock: { shiftMs: number };
  /** The engine under it, with the same durability. */
  readonly raw: RawEngine;
  /** Another, empty device on the same engine, to be closed by whoever opened it. */
  openAnother(): Promise<DeviceStorage>;
  /** The engine alone with so many entries, on the same server or beside the same file. */
  openAnotherRaw(entries: number): Promise<RawEngine>;
  /** Bytes of the files on disk, and of memory where the engine is a process of its own. */
  size(): Promise<{ diskBytes: number; memoryBytes: number | undefined }>;
  close(): Promise<void>;
}

/** The encrypted SQLite file with the settings it ships with. */
export async function openSqliteBench(): Promise<Bench> {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-bench-'));
  const clock = { shiftMs: 0 };
  const now = () => new Date(Date.now() + clock.shiftMs);
  const path = join(folder, 'device.db');
  const storage = await openDeviceStorage({ backend: 'sqlite', path, key: randomBytes(32), now });
  const raw = openRawSqlite(join(folder, 'raw.db'));
  const others: { close(): void }[] = [];
  return {
    name: 'sqlite',
    storage,
    clock,
    raw,
    openAnother: () =>
      openDeviceStorage({ backend: 'sqlite', path: join(folder, 'another.db'), key: randomBytes(32), now }),
    openAnotherRaw: async (entries) => {
      const another = openRawSqlite(join(folder, 'another-raw.db'), entries);
      others.push(another);
      return another;
    },
    size: async () => ({ diskBytes: bytesIn(folder, 'device.db'), memoryBytes: undefined }),
    close: async () => {
      await storage.close();
      for (const opened of [raw, ...others]) opened.close();
      rmSync(folder, { recursive: true });
    },
  };
}

/** A redis-server of its own with deploy/redis.conf, or with another fsync policy to see what it costs. */
export async function openRedisBench(appendfsync: 'always' | 'everysec'): Promise<Bench> {
  const server = await RedisServer.start('--appendfsync', appendfsync);
  const engine = server.client();
  const clock = { shiftMs: 0 };
  const now = () => new Date(Date.now() + clock.shiftMs);
  const storage = await openDeviceStorage({ backend: 'redis', url: server.url, namespace: 'bench', now });
  return {
    name: `redis (${appendfsync})`,
    storage,
    clock,
    raw: await openRawRedis(engine),
    openAnother: () => openDeviceStorage({ backend: 'redis', url: server.url, namespace: 'another', now }),
    openAnotherRaw: (entries) => openRawRedis(engine, entries),
    size: async () => {
      const [, memory = '0'] = /used_memory:(\d+)/.exec(await engine.info('memory')) ?? [];
      return { diskBytes: bytesIn(server.folder, 'appendonly'), memoryBytes: Number(memory) };
    },
    close: async () => {
      await storage.close();
      await server.destroy();
    },
  };
}

function bytesIn(folder: string, prefix: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && join(entry.parentPath, entry.name).startsWith(join(folder, prefix)))
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
}
