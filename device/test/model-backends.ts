import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bytes, ManualClock } from '../conformance/harness';
import { checkConfig, type RedisConfig, type SqliteConfig } from '../device-config';
import { RECORD_KINDS } from '../device-record';
import type { DeviceStorage } from '../device-storage';
import { openDeviceStorage } from '../open-device-storage';
import { Secret } from '../secret';
import { openConnection } from '../sqlite/open';
import { MODEL_BUDGETS } from './model-run';
import { RedisServer } from './redis-server';

/** One storage, emptied between sequences, so that opening (a passphrase takes 0.2 s) is paid once. */
export interface ModelBackend {
  readonly name: string;
  readonly clock: ManualClock;
  open(): Promise<DeviceStorage>;
  reset(): Promise<void>;
  destroy(): Promise<void>;
}

function sqlite(name: string, key: Uint8Array | string): ModelBackend {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-model-'));
  const clock = new ManualClock();
  const config = {
    backend: 'sqlite',
    path: join(folder, 'd.db'),
    key,
    now: clock.now,
    budgets: MODEL_BUDGETS,
  } as const;
  const engine = openConnection({ ...checkConfig<SqliteConfig>(config), secret: Secret.from(key) });
  const wipes = RECORD_KINDS.map((kind) => engine.prepare(`DELETE FROM ${kind}`));
  return {
    name,
    clock,
    open: () => openDeviceStorage(config),
    reset: async () => engine.write(() => wipes.forEach((wipe) => void wipe.run())),
    destroy: async () => {
      engine.close();
      rmSync(folder, { recursive: true });
    },
  };
}

async function redis(name: string, key?: Uint8Array): Promise<ModelBackend> {
  const server = await RedisServer.start();
  const clock = new ManualClock();
  const { url } = server;
  const config: RedisConfig = {
    backend: 'redis',
    url,
    namespace: 'model',
    key,
    now: clock.now,
    budgets: MODEL_BUDGETS,
  };
  const engine = server.client();
  return {
    name,
    clock,
    open: () => openDeviceStorage(config),
    reset: async () => {
      const keys = await engine.keys('*:v1:*');
      if (keys.length > 0) await engine.del(keys);
    },
    destroy: () => server.destroy(),
  };
}

export const MODEL_BACKENDS: readonly (() => Promise<ModelBackend>)[] = [
  async () => sqlite('SQLite with a raw key', bytes(32, 3)),
  async () => sqlite('SQLite with a passphrase', 'model passphrase'),
  () => redis('Redis with a key', bytes(32, 4)),
  () => redis('Redis without a key'),
];
