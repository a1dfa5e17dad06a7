import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type DeviceStorage, openDeviceStorage } from '../../device';
import { RedisServer } from '../../testkit/redis-server';
import { openRawRedis, openRawSqlite, type RawEngine } from './raw-engines';

/** A device storage under test, with the raw engine for comparison. */
export interface Bench {
  readonly name: string;
  readonly storage: DeviceStorage;
  /** Shifts the clock that is injected into the storage, in milliseconds. */
  readonly clock: { shiftMs: number };
  /** The engine alone, without the library, with equal durability. */
  readonly raw: RawEngine;
  /** Opens another, empty device on the same engine. The caller closes it. */
  openAnother(): Promise<DeviceStorage>;
  /** Opens the raw engine with `entries` entries, on the same server or in the same folder. */
  openAnotherRaw(entries: number): Promise<RawEngine>;
  /** Returns the bytes of the files on disk, and of memory if the engine is a separate process. */
  size(): Promise<{ diskBytes: number; memoryBytes: number | undefined }>;
  close(): Promise<void>;
}

/** Opens the encrypted SQLite backend with its default settings. */
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

/**
 * Opens the Redis backend on its own redis-server with deploy/redis.conf and the given fsync policy (`always` is the
 * default).
 */
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
