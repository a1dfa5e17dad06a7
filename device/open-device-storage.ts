import { statSync } from 'node:fs';
import { type Choice, readChoice, recordChoice, switchChoice } from './backend-choice';
import type { DeviceStorage } from './contract/device-storage';
import {
  type AutoConfig,
  type CheckedConfig,
  checkConfig,
  type DeviceStorageConfig,
  type RedisConfig,
  type SqliteConfig,
} from './device-config';
import { InvalidArgumentError, StorageFullError, UnreachableError, UnsuitableServerError } from './errors';
import { withSecret } from './secret';
import { openSqlite } from './sqlite/open';
import { withTelemetry } from './telemetry/traced';

/**
 * Opens the storage of one device, and creates it if there is none. Any number of processes may have it open.
 *
 * Rejects with InvalidArgumentError (naming the field of the config), KeyMissingError, WrongKeyError,
 * NotADatabaseError, NewerSchemaError, UnreachableError, UnsuitableServerError, StorageMissingError, OlderStorageError,
 * WrongOwnerError, StorageMovedError, BackendRecordError, or an error that any operation may reject with, such as
 * StorageFullError. If it rejects, an existing storage is unchanged.
 *
 * Operations are recorded as spans and metrics of the OpenTelemetry providers that the application has registered, if
 * any.
 */
export async function openDeviceStorage(config: DeviceStorageConfig): Promise<DeviceStorage> {
  const storage = await open(checkConfig(config));
  try {
    if (config.owner !== undefined) await storage.owner.bind(config.owner);
    return withTelemetry(storage);
  } catch (error) {
    await storage.close();
    throw error;
  }
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
  return withSecret(config.key, (secret) => openSqlite({ ...config, secret }));
}

async function openOnRedis(config: CheckedConfig<RedisConfig | AutoConfig>): Promise<DeviceStorage> {
  if (config.backend === 'auto' && config.generation !== undefined) {
    throw new InvalidArgumentError('generation', 'is kept by SQLite only; leave it out for a device on Redis');
  }
  // Loaded on use, because an application on SQLite needs no Redis client.
  const { openRedis }: typeof import('./redis/open') = require('./redis/open');
  // Only a Redis device may have no key; its contact and user ids are then stored in the clear.
  if (config.backend === 'redis' && config.key === undefined) return openRedis({ ...config, secret: undefined });
  return withSecret(config.key, (secret) => openRedis({ ...config, secret }));
}

/**
 * Opens an `auto` device. The backend is chosen once. Later openings use it even if it is down and the other one is up,
 * because a vault that looks empty would be worse than no vault.
 */
async function openAuto(config: CheckedConfig<AutoConfig>): Promise<DeviceStorage> {
  const { path, create } = config;
  // A file at the path means that the device was opened with `sqlite` before it was opened with `auto`.
  const recorded =
    readChoice(path) ?? (isThere(path) ? recordChoice(path, { backend: 'sqlite', isCreated: true }) : null);
  if (recorded !== null) return openChosen(config, recorded);
  const redis = await openUsableRedis(config);
  // The storage may be on the server that is down, so it cannot be called missing.
  if (redis instanceof UnusableRedis && create === false) throw redis.reason;
  let chosen: Choice;
  try {
    // A process that opens the device at the same moment may see the server in another state and record its choice
    // first. recordChoice returns the choice on record.
    chosen = recordChoice(
      path,
      redis instanceof UnusableRedis ? { backend: 'sqlite', isCreated: false } : { backend: 'redis', isCreated: true },
    );
  } catch (error) {
    if (!(redis instanceof UnusableRedis)) await redis.close();
    throw error;
  }
  if (redis instanceof UnusableRedis) {
    if (chosen.backend === 'sqlite') warnOfFallback(config, redis);
    return openChosen(config, chosen);
  }
  if (chosen.backend === 'redis') return redis;
  await redis.close();
  return openChosen(config, chosen);
}

/** Opens the backend on record. Its storage is created only if it never was, or if the config says so explicitly. */
async function openChosen(config: CheckedConfig<AutoConfig>, { backend, isCreated }: Choice): Promise<DeviceStorage> {
  const checked = { ...config, create: config.create ?? (isCreated ? false : undefined) };
  const storage = await (backend === 'redis' ? openOnRedis(checked) : openOnSqlite(checked));
  try {
    if (!isCreated) switchChoice(config.path, backend);
  } catch (error) {
    await storage.close();
    throw error;
  }
  return storage;
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
