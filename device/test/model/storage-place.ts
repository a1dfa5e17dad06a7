import { copyFileSync, existsSync, readFileSync, renameSync, rmSync } from 'node:fs';
import type { ChildConfig } from '../../conformance/harness';
import type { DeviceStorage } from '../../contract/device-storage';
import {
  backupDeviceStorage,
  openDeviceStorage,
  type RedisConfig,
  restoreDeviceStorage,
  type SqliteConfig,
} from '../../index';
import { backUp, lose } from '../device-backup';

/** The files of a storage, or its keys on a Redis server: what an app, a user or a disk does to them. */
export class StoragePlace {
  readonly config: SqliteConfig | RedisConfig;
  readonly #child: ChildConfig;
  #restore: (() => Promise<void>) | undefined;

  constructor(child: ChildConfig, now: () => Date) {
    const { backend, path = '', url = '', namespace = '', key = '', budgets } = child;
    const secret = typeof key === 'string' ? key : Uint8Array.from(key);
    const common = { key: secret, budgets, now, onWarning: () => undefined };
    this.config = backend === 'sqlite' ? { ...common, backend, path } : { ...common, backend, url, namespace };
    this.#child = child;
  }

  /** Makes a backup of the open storage, in place of an earlier one. */
  async backUp(storage: DeviceStorage): Promise<void> {
    const { config } = this;
    if (config.backend === 'redis') {
      const putBack = await backUp(this.#child);
      this.#restore = async () => {
        await putBack();
        const restored = await openDeviceStorage(config);
        await restored.inventory.dropCachedCoins();
        await restored.close();
      };
      return;
    }
    const target = `${config.path}.backup`;
    rmSync(target, { force: true });
    await backupDeviceStorage(storage, target);
    this.#restore = async () => {
      await restoreDeviceStorage(config, target);
    };
  }

  /** Restores the backup as the documents say. Every handle must be closed. */
  async restore(): Promise<void> {
    if (this.#restore === undefined) throw new Error('There is no backup.');
    await this.#restore();
  }

  /** Takes the storage away from under its open handles. Returns a function that puts it back. */
  async takeAway(): Promise<() => Promise<void>> {
    if (this.config.backend === 'redis') {
      const putBack = await backUp(this.#child);
      await lose(this.#child);
      return putBack;
    }
    const { path } = this.config;
    const files = ['', '-wal', '-shm'].map((suffix) => `${path}${suffix}`).filter((file) => existsSync(file));
    for (const file of files) renameSync(file, `${file}.away`);
    return async () => {
      for (const file of files) renameSync(`${file}.away`, file);
    };
  }

  /** Removes the storage. Requires that it is missed then, and nothing is created in its place. */
  async lose(): Promise<void> {
    await lose(this.#child);
    await expectError('StorageMissingError', openDeviceStorage({ ...this.config, create: false }));
    const storage = await openDeviceStorage({ ...this.config, create: true });
    await storage.close();
  }

  /**
   * Puts an older copy of the file there, without restoring it. Requires that the generation tells it, and nothing is
   * changed. Every handle must be closed. A device on Redis has no generation.
   */
  async refuseOlder(): Promise<void> {
    const { config } = this;
    if (config.backend === 'redis') return;
    const { path } = config;
    copyFileSync(path, `${path}.older`);
    const storage = await openDeviceStorage(config);
    const { generation } = storage;
    await storage.close();
    renameSync(path, `${path}.newer`);
    copyFileSync(`${path}.older`, path);
    await expectError('OlderStorageError', openDeviceStorage({ ...config, generation }));
    if (!readFileSync(path).equals(readFileSync(`${path}.older`))) throw new Error('The older copy was changed.');
    renameSync(`${path}.newer`, path);
  }
}

async function expectError(name: string, opening: Promise<DeviceStorage>): Promise<void> {
  const outcome = await opening.then(
    (storage) => storage.close(),
    (error: unknown) => error,
  );
  if (!(outcome instanceof Error) || outcome.name !== name)
    throw new Error(`Expected ${name}, got ${String(outcome)}.`);
}
