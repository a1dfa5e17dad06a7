import { statSync } from 'node:fs';
import { readChoice, recordChoice } from './backend-choice';
import type { BackendName, DeviceStorage } from './contract/device-storage';
import {
  type AutoConfig,
  type CheckedConfig,
  checkConfig,
  type DeviceStorageConfig,
  type RedisConfig,
  type SqliteConfig,
} from './device-config';
import { StorageFullError, UnreachableError, UnsuitableServerError } from './errors';
import { Secret } from './secret';
import { openSqlite } from './sqlite/open';
import { withTelemetry } from './telemetry/traced';

/**
 * Opens the storage of one device, and creates it if there is none. Any number of processes may have it open.
 *
 * Rejects with InvalidArgumentError (naming the field of the config), KeyMissingError, WrongKeyError,
 * NotADatabaseError, NewerSchemaError, UnreachableError, UnsuitableServerError, StorageMovedError, BackendRecordError, or an error that any
 * operation may reject with, such as StorageFullError. If it rejects, an existing storage is unchanged.
 *
 * Operations are recorded as spans and metrics of the OpenTelemetry providers that the application has registered, if
 * any.
 */
export async function openDeviceStorage(config: DeviceStorageConfig): Promise<DeviceStorage> {
  return withTelemetry(await open(checkConfig(config)));
}

function open(config: ReturnType<typeof checkConfig>): Promise<DeviceStorage> {
  switch (config.backend) {
    case 'sqlite':
      return openOnSqlite(config);
    case 'redis':
      return openOnRedis(config);
    case 'auto':
      return openAuto(config);
  }
}

/** The pinned name of the contract (SecureVault, SmartInventory, DatabaseFactory) for openDeviceStorage. */
export const DatabaseFactory = { open: openDeviceStorage } as const;

async function openOnSqlite(config: CheckedConfig<SqliteConfig | AutoConfig>): Promise<DeviceStorage> {
  const secret = Secret.from(config.key);
  try {
    return openSqlite({ ...config, secret });
  } finally {
    secret.wipe();
  }
}

async function openOnRedis(config: CheckedConfig<RedisConfig | AutoConfig>): Promise<DeviceStorage> {
  // Only a Redis device may have no key; its contact and user ids are then stored in the clear.
  const secret = config.backend === 'redis' && config.key === undefined ? undefined : Secret.from(config.key);
  // Loaded on use, because an application on SQLite needs no Redis client.
  const { openRedis }: typeof import('./redis/open') = require('./redis/open');
  try {
    return await openRedis({ ...config, secret });
  } finally {
    secret?.wipe();
  }
}

/**
 * Opens an `auto` device. The backend is chosen once. Later openings use it even if it is down and the other one is up,
 * because a vault that looks empty would be worse than no vault.
 */
async function openAuto(config: CheckedConfig<AutoConfig>): Promise<DeviceStorage> {
  const open = (backend: BackendName) => (backend === 'redis' ? openOnRedis(config) : openOnSqlite(config));
  // A file at the path means that the device was opened with `sqlite` before it was opened with `auto`.
  const recorded = readChoice(config.path) ?? (isThere(config.path) ? recordChoice(config.path, 'sqlite') : null);
  if (recorded !== null) return open(recorded);
  const redis = await openUsableRedis(config);
  let chosen: BackendName;
  try {
    // A process that opens the device at the same moment may see the server in another state and record its choice
    // first. recordChoice returns the choice on record.
    chosen = recordChoice(config.path, redis instanceof UnusableRedis ? 'sqlite' : 'redis');
  } catch (error) {
    if (!(redis instanceof UnusableRedis)) await redis.close();
    throw error;
  }
  if (redis instanceof UnusableRedis) {
    if (chosen === 'sqlite') warnOfFallback(config, redis);
    return open(chosen);
  }
  if (chosen === 'redis') return redis;
  await redis.close();
  return open(chosen);
}

/** Stands for a Redis server that an `auto` device cannot use, with the reason. */
class UnusableRedis {
  constructor(readonly reason: Error) {}
}

/**
 * Opens Redis for an `auto` device. A server is unusable if it is unreachable, full or unsuitable. Any other error, such as that of
 * a wrong key, is thrown, and no backend is chosen.
 */
async function openUsableRedis(config: CheckedConfig<AutoConfig>): Promise<DeviceStorage | UnusableRedis> {
  try {
    return await openOnRedis(config);
  } catch (error) {
    if (
      error instanceof UnreachableError ||
      error instanceof StorageFullError ||
      error instanceof UnsuitableServerError
    ) {
      return new UnusableRedis(error);
    }
    throw error;
  }
}

function warnOfFallback({ path, onWarning }: CheckedConfig<AutoConfig>, { reason }: UnusableRedis): void {
  const message = `No Redis could be used when this device was first opened: ${reason.message} Its keys are kept in SQLite, at ${path}.`;
  onWarning({ code: 'AQM_AUTO_FELL_BACK', message });
}

/** Returns true if a file with content is at the path. SQLite treats an empty file as a new database. */
function isThere(path: string): boolean {
  return (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > 0;
}
