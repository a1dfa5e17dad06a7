import { statSync } from 'node:fs';
import { type BackendName, readChoice, recordChoice } from './backend-choice';
import type { DeviceStorage } from './contract/device-storage';
import {
  type AutoConfig,
  type CheckedConfig,
  checkConfig,
  type DeviceStorageConfig,
  type RedisConfig,
  type SqliteConfig,
} from './device-config';
import { StorageFullError, UnreachableError } from './errors';
import { openRedis } from './redis/open';
import { Secret } from './secret';
import { openSqlite } from './sqlite/open';
import { withTelemetry } from './telemetry/traced';

/**
 * Opens the storage of one device, and makes it when there is none. Any number of processes may hold it open.
 *
 * Rejects with InvalidArgumentError (naming the field of the config), KeyMissingError, WrongKeyError,
 * NotADatabaseError, NewerSchemaError, UnreachableError, StorageMovedError, BackendRecordError, or the errors of using
 * it. None of them changes a storage that is there.
 *
 * Operations are spans and metrics of the OpenTelemetry providers that the application has registered before, if any.
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

/** Picks the backend that the config names, or for `auto` the one that the device was opened with first. */
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
  const secret = config.backend === 'redis' && config.key === undefined ? undefined : Secret.from(config.key);
  try {
    return await openRedis({ ...config, secret });
  } finally {
    secret?.wipe();
  }
}

/**
 * The choice is made once. Later openings follow its record also when that backend is down and the other one is up: a
 * vault that looks empty would be worse than none.
 */
async function openAuto(config: CheckedConfig<AutoConfig>): Promise<DeviceStorage> {
  const open = (backend: BackendName) => (backend === 'redis' ? openOnRedis(config) : openOnSqlite(config));
  // A device that was opened with `sqlite` before it was opened with `auto` has made its choice.
  const recorded = readChoice(config.path) ?? (isThere(config.path) ? recordChoice(config.path, 'sqlite') : null);
  if (recorded !== null) return open(recorded);
  const redis = await openUsableRedis(config);
  let chosen: BackendName;
  try {
    // Another process that opens the device at the same moment may find the server otherwise, and be first.
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

class UnusableRedis {
  constructor(readonly reason: Error) {}
}

/**
 * Unusable is a server that cannot be reached at this moment, or that is full. Whatever else it answers, such as that
 * the key is not the device's, is for the caller to see, and decides nothing.
 */
async function openUsableRedis(config: CheckedConfig<AutoConfig>): Promise<DeviceStorage | UnusableRedis> {
  try {
    return await openOnRedis(config);
  } catch (error) {
    if (error instanceof UnreachableError || error instanceof StorageFullError) return new UnusableRedis(error);
    throw error;
  }
}

function warnOfFallback({ path, onWarning }: CheckedConfig<AutoConfig>, { reason }: UnusableRedis): void {
  const message = `No Redis could be used when this device was first opened: ${reason.message} From now on its keys are in SQLite, at ${path}.`;
  onWarning({ code: 'AQM_AUTO_FELL_BACK', message });
}

function isThere(path: string): boolean {
  return (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > 0;
}
