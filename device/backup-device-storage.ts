import { readChoice, recordChoice } from './backend-choice';
import type { DeviceStorage } from './contract/device-storage';
import { type AutoConfig, checkConfig, checkPath, type DeviceStorageConfig, type SqliteConfig } from './device-config';
import { InvalidArgumentError } from './errors';
import { openDeviceStorage } from './open-device-storage';
import { withSecret } from './secret';
import { restoreSqlite } from './sqlite/restore';

/** The facts that the app should keep outside of the storage after a backup or a restore. */
export interface BackupReport {
  /** The number of the storage's generation. Pass it to the next opening. */
  readonly generation: number;
}

/**
 * Writes a copy of a device's storage on SQLite to a new file: complete, consistent, encrypted with the same key, and
 * readable by its owner only. The storage may be open, in other processes too, and may be used meanwhile; pass its
 * handle, or the config of a device that is not open. The copy appears under its name when it is on disk. It takes as
 * long as reading the storage once, and blocks the process meanwhile.
 *
 * Rejects with InvalidArgumentError if the target exists, or if the device is on Redis, with UnreachableError or
 * StorageFullError if the target cannot be written, and with the errors of opening.
 */
export async function backupDeviceStorage(
  storageOrConfig: DeviceStorage | DeviceStorageConfig,
  target: string,
): Promise<BackupReport> {
  const file = checkPath(target, 'target');
  if (typeof storageOrConfig === 'object' && storageOrConfig !== null && 'vault' in storageOrConfig) {
    return backUp(storageOrConfig, file);
  }
  const config = checkConfig(storageOrConfig);
  if (config.backend === 'redis') throw notOnSqlite();
  const storage = await openDeviceStorage({ ...config, create: false });
  try {
    return await backUp(storage, file);
  } finally {
    await storage.close();
  }
}

async function backUp(storage: DeviceStorage, target: string): Promise<BackupReport> {
  if (storage.backUp === undefined) throw notOnSqlite();
  await storage.backUp(target);
  return { generation: storage.generation ?? 0 };
}

/**
 * Puts a backup in the place of a device's storage on SQLite, as a whole. With the device's own path as `source` it
 * adopts an older copy that another program has put there, such as a restored phone backup. A file that is there must
 * open with the key; move a damaged one away first. No process may have the storage open.
 *
 * Everything that may have been used since the backup is dropped: all cached coins, which are remembered as used, and
 * all pending requests. Private halves that were burned since are back, so call reconcileCoins before anything is
 * published. The storage gets a generation later than that of the backup, the file that it replaces, and the config. A
 * crash leaves the old storage or the new one.
 *
 * Rejects with StorageBusyError if the storage is open, with StorageMissingError, WrongKeyError, NotADatabaseError or
 * StorageCorruptedError if the backup cannot be used, with StorageMovedError if either storage takes part in a move,
 * with InvalidArgumentError if the device is on Redis, and with the errors of opening. Nothing was changed then.
 */
export async function restoreDeviceStorage(config: SqliteConfig | AutoConfig, source: string): Promise<BackupReport> {
  const checked = checkConfig<DeviceStorageConfig>(config);
  const file = checkPath(source, 'source');
  if (checked.backend === 'redis' || (checked.backend === 'auto' && readChoice(checked.path)?.backend === 'redis')) {
    throw notOnSqlite();
  }
  const generation = await withSecret(checked.key, (secret) => restoreSqlite({ ...checked, secret, source: file }));
  if (checked.backend === 'auto') recordChoice(checked.path, { backend: 'sqlite', isCreated: true });
  return { generation };
}

function notOnSqlite(): InvalidArgumentError {
  return new InvalidArgumentError(
    'backend',
    'must be sqlite for a backup; move the device to a file with moveDeviceStorage, or back up the Redis server',
  );
}
