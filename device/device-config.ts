import { type BudgetTable, checkBudgets, DEFAULT_BUDGETS } from './contract/budget';
import { MAX_CLOCK_JUMP_MS } from './contract/trusted-clock';
import { InvalidArgumentError } from './errors';
import { checkNamespace, checkUrl } from './redis-address';
import { emitWarning, type WarningListener } from './warning';

interface CommonConfig {
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

export interface SqliteConfig extends CommonConfig {
  readonly backend: 'sqlite';
  /** The database file. Its folder must exist. A missing file is created, readable by its owner only. */
  readonly path: string;
  /** A 32-byte raw key, or a passphrase as text. */
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
export interface AutoConfig extends CommonConfig, Omit<RedisConfig, 'backend' | 'key'> {
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
  const { backend, now = () => new Date(), budgets = DEFAULT_BUDGETS, onWarning = emitWarning } = config;
  if (backend !== 'sqlite' && backend !== 'redis' && backend !== 'auto') {
    throw new InvalidArgumentError('backend', "must be 'sqlite', 'redis' or 'auto'");
  }
  if (config.backend !== 'redis') checkPath(config.path);
  if (config.backend !== 'sqlite') {
    checkUrl(config.url);
    checkNamespace(config.namespace);
    if (config.allowVolatile !== undefined && typeof config.allowVolatile !== 'boolean') {
      throw new InvalidArgumentError('allowVolatile', 'must be true or false');
    }
  }
  if (typeof now !== 'function') throw new InvalidArgumentError('now', 'must be a function that returns a Date');
  if (typeof onWarning !== 'function') throw new InvalidArgumentError('onWarning', 'must be a function');
  checkBudgets(budgets);
  const { maxClockJumpMs = MAX_CLOCK_JUMP_MS } = config;
  if (!(maxClockJumpMs >= 1000 && maxClockJumpMs <= MAX_CLOCK_JUMP_MS)) {
    throw new InvalidArgumentError('maxClockJumpMs', `must be from 1000 to ${MAX_CLOCK_JUMP_MS}`);
  }
  return { ...config, now, budgets, onWarning };
}

function checkPath(path: unknown): void {
  if (typeof path !== 'string' || path === '' || path.includes('\0') || path.trim() !== path) {
    throw new InvalidArgumentError('path', 'must name a file, without surrounding spaces');
  }
}
