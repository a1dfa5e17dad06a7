import { resolve } from 'node:path';
import { type BudgetTable, checkBudgets, DEFAULT_BUDGETS } from './contract/budget';
import type { StorageOwner } from './contract/owner';
import { MAX_CLOCK_JUMP_MS } from './contract/trusted-clock';
import { checkOwner } from './contract/validate';
import { InvalidArgumentError } from './errors';
import { checkNamespace, checkUrl } from './redis-address';
import { emitWarning, type WarningListener } from './warning';

interface CommonConfig {
  /**
   * False: a storage that is missing is not created, but is a StorageMissingError. Set it once the device was opened
   * for the first time. Default: true, except where the storage has been there before, as the record of an `auto`
   * device or a `-wal` file without its database shows; there only an explicit `true` makes a new one.
   */
  readonly create?: boolean;
  /**
   * The user, and with several devices per user the device, to whom the storage belongs. It is bound at first use;
   * later, another one is a WrongOwnerError. Default: the first publishCoins or reconcileCoins binds it to its token's.
   */
  readonly owner?: StorageOwner;
  /** The clock. Default: the machine's. */
  readonly now?: () => Date;
  /** The number of coins to keep per contact. Default: DEFAULT_BUDGETS. */
  readonly budgets?: BudgetTable;
  /**
   * The largest difference in milliseconds between the device's clock and a time known to be right at which the clock
   * is trusted, 1000 to 86400000. Default: one day. Beyond it, steps that destroy by time reject with ClockError.
   */
  readonly maxClockJumpMs?: number;
  /** Called with warnings, for example that the server may lose keys. Default: process.emitWarning. */
  readonly onWarning?: WarningListener;
}

interface FileConfig {
  /**
   * The last `storage.generation` that the app has seen, kept where no backup of the file reaches, such as a keychain. A
   * file that is older is an OlderStorageError, and a missing one a StorageMissingError. Only for a device on SQLite.
   */
  readonly generation?: number;
}

export interface SqliteConfig extends CommonConfig, FileConfig {
  readonly backend: 'sqlite';
  /**
   * The database file. Its folder must exist. A missing or empty file is created, readable by its owner only. A relative
   * path is resolved once, when the storage is opened.
   */
  readonly path: string;
  /** A 32-byte raw key, or a passphrase as text, which is used in Unicode's composed form (NFC). */
  readonly key: Uint8Array | string;
}

export interface RedisConfig extends CommonConfig {
  readonly backend: 'redis';
  /** `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS, or `unix://[user:password@]/socket[?db=n]`. */
  readonly url: string;
  /** This device's part of the server: 1 to 128 characters without spaces and braces. */
  readonly namespace: string;
  /**
   * A 32-byte raw key, or a passphrase as text. With a key, contact and user ids are stored only encrypted or as HMACs;
   * without one they are stored in the clear.
   */
  readonly key?: Uint8Array | string;
  /**
   * Opens a server that may lose keys too: one without an append-only file, or one that evicts keys when its memory is
   * full. Then this is only a warning. Default: false, such a server is refused with UnsuitableServerError.
   */
  readonly allowVolatile?: boolean;
}

/**
 * Chooses Redis if it can be used when the device is first opened, otherwise SQLite. Later openings use the same
 * backend.
 */
export interface AutoConfig extends CommonConfig, FileConfig, Omit<RedisConfig, 'backend' | 'key'> {
  readonly backend: 'auto';
  /** The database file of SQLite. `${path}.backend` records the choice. */
  readonly path: string;
  /** A 32-byte raw key, or a passphrase as text, for the chosen backend. */
  readonly key: Uint8Array | string;
}

export type DeviceStorageConfig = SqliteConfig | RedisConfig | AutoConfig;

/** A checked config with its defaults filled in. */
export type CheckedConfig<Config extends DeviceStorageConfig = DeviceStorageConfig> = Config &
  Required<Pick<CommonConfig, 'now' | 'budgets' | 'onWarning'>>;

/**
 * Checks a config and fills in the defaults. Throws InvalidArgumentError naming the field. The key is checked where it
 * is used.
 */
export function checkConfig<Config extends DeviceStorageConfig>(config: Config): CheckedConfig<Config> {
  if (typeof config !== 'object' || config === null) throw new InvalidArgumentError('config', 'must be an object');
  const { backend, create, now = () => new Date(), budgets = DEFAULT_BUDGETS, onWarning = emitWarning } = config;
  if (backend !== 'sqlite' && backend !== 'redis' && backend !== 'auto') {
    throw new InvalidArgumentError('backend', "must be 'sqlite', 'redis' or 'auto'");
  }
  const file = config.backend === 'redis' ? {} : { path: checkPath(config.path) };
  if (config.backend !== 'sqlite') {
    checkUrl(config.url);
    checkNamespace(config.namespace);
    if (config.allowVolatile !== undefined && typeof config.allowVolatile !== 'boolean') {
      throw new InvalidArgumentError('allowVolatile', 'must be true or false');
    }
  }
  if (create !== undefined && typeof create !== 'boolean') {
    throw new InvalidArgumentError('create', 'must be true or false');
  }
  const creation = checkGeneration(config);
  if (typeof now !== 'function') throw new InvalidArgumentError('now', 'must be a function that returns a Date');
  if (typeof onWarning !== 'function') throw new InvalidArgumentError('onWarning', 'must be a function');
  checkBudgets(budgets);
  if (config.owner !== undefined) checkOwner(config.owner);
  const { maxClockJumpMs = MAX_CLOCK_JUMP_MS } = config;
  if (!(maxClockJumpMs >= 1000 && maxClockJumpMs <= MAX_CLOCK_JUMP_MS)) {
    throw new InvalidArgumentError('maxClockJumpMs', `must be from 1000 to ${MAX_CLOCK_JUMP_MS}`);
  }
  return { ...config, ...file, ...creation, now, budgets, onWarning };
}

/** A device whose generation the app knows was opened before, so its storage is not created. */
function checkGeneration(config: DeviceStorageConfig): Pick<CommonConfig, 'create'> {
  const generation: unknown = 'generation' in config ? config.generation : undefined;
  if (generation === undefined) return {};
  if (config.backend === 'redis') throw new InvalidArgumentError('generation', 'is kept by SQLite only; leave it out');
  if (typeof generation !== 'number' || !Number.isSafeInteger(generation) || generation < 0) {
    throw new InvalidArgumentError('generation', 'must be the last storage.generation');
  }
  if (config.create === true) throw new InvalidArgumentError('generation', 'must be left out when create is true');
  return { create: false };
}

/** Returns the absolute path of a file. Throws InvalidArgumentError naming `field` if it names none. */
export function checkPath(path: unknown, field = 'path'): string {
  if (typeof path !== 'string' || path === '' || path.includes('\0') || path.trim() !== path) {
    throw new InvalidArgumentError(field, 'must name a file, without surrounding spaces');
  }
  if (path === ':memory:') {
    throw new InvalidArgumentError(field, 'must name a file, not :memory:, because a device storage must be kept');
  }
  return resolve(path);
}
