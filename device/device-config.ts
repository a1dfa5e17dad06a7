import { type BudgetTable, checkBudgets, DEFAULT_BUDGETS } from './contract/budget';
import { InvalidArgumentError } from './errors';
import { checkNamespace, checkUrl } from './redis-address';
import { emitWarning, type WarningListener } from './warning';

interface CommonConfig {
  /** The clock. Default: the machine's. */
  readonly now?: () => Date;
  /** Coins to keep per contact. Default: DEFAULT_BUDGETS. */
  readonly budgets?: BudgetTable;
  /** Told what the owner should know, such as a server that may lose keys. Default: process.emitWarning. */
  readonly onWarning?: WarningListener;
}

export interface SqliteConfig extends CommonConfig {
  readonly backend: 'sqlite';
  /** The database file. Its folder must exist; the file is made when missing, readable for its owner only. */
  readonly path: string;
  /** 32 bytes: a raw key. A text: a passphrase. */
  readonly key: Uint8Array | string;
}

export interface RedisConfig extends CommonConfig {
  readonly backend: 'redis';
  /** `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS, or `unix://[user:password@]/socket[?db=n]`. */
  readonly url: string;
  /** This device's part of the server: 1 to 128 characters without spaces and braces. */
  readonly namespace: string;
  /** As for SQLite. With it, contact ids lie in the server encrypted or as HMACs only; without it, in the clear. */
  readonly key?: Uint8Array | string;
}

/** Redis where it can be reached when the device is first opened, else SQLite; from then on always the same. */
export interface AutoConfig extends CommonConfig, Omit<RedisConfig, 'backend' | 'key'> {
  readonly backend: 'auto';
  /** The database file of SQLite. `${path}.backend` keeps the choice. */
  readonly path: string;
  /** For whichever backend it is. */
  readonly key: Uint8Array | string;
}

export type DeviceStorageConfig = SqliteConfig | RedisConfig | AutoConfig;

/** A checked config, whichever the backend. */
export type CheckedConfig<Config extends DeviceStorageConfig = DeviceStorageConfig> = Config &
  Required<Pick<CommonConfig, 'now' | 'budgets' | 'onWarning'>>;

/** Fills in the defaults. Throws InvalidArgumentError naming the field. The key is checked where it is used. */
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
  }
  if (typeof now !== 'function') throw new InvalidArgumentError('now', 'must be a function that returns a Date');
  if (typeof onWarning !== 'function') throw new InvalidArgumentError('onWarning', 'must be a function');
  checkBudgets(budgets);
  return { ...config, now, budgets, onWarning };
}

function checkPath(path: unknown): void {
  if (typeof path !== 'string' || path === '' || path.includes('\0') || path.trim() !== path) {
    throw new InvalidArgumentError('path', 'must name a file, without space around it');
  }
}
