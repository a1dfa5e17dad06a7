import { type BudgetTable, checkBudgets, DEFAULT_BUDGETS } from './budget';
import type { DeviceStorage } from './device-storage';
import { InvalidArgumentError } from './errors';
import { Secret } from './secret';
import { openSqlite } from './sqlite/open';

export interface SqliteConfig {
  readonly backend: 'sqlite';
  /** The database file. Its folder must exist; the file is made when missing, readable for its owner only. */
  readonly path: string;
  /** 32 bytes: a raw key. A text: a passphrase. */
  readonly key: Uint8Array | string;
  /** The clock. Default: the machine's. */
  readonly now?: () => Date;
  /** Coins to keep per contact. Default: DEFAULT_BUDGETS. */
  readonly budgets?: BudgetTable;
}

export type DeviceStorageConfig = SqliteConfig;

/**
 * Opens the storage of one device, and makes it when there is none. Any number of processes may hold it open.
 *
 * Rejects with InvalidArgumentError (naming the field of the config), KeyMissingError, WrongKeyError,
 * NotADatabaseError, NewerSchemaError, UnreachableError, or the errors of using it. None of them changes a file that
 * is there.
 */
export async function openDeviceStorage(config: DeviceStorageConfig): Promise<DeviceStorage> {
  if (typeof config !== 'object' || config === null) throw new InvalidArgumentError('config', 'must be an object');
  const { backend, path, key, now = () => new Date(), budgets = DEFAULT_BUDGETS } = config;
  if (backend !== 'sqlite')
    throw new InvalidArgumentError('backend', "must be 'sqlite', the one backend of this release");
  if (typeof path !== 'string' || path === '' || path.includes('\0') || path.trim() !== path) {
    throw new InvalidArgumentError('path', 'must name a file, without space around it');
  }
  if (typeof now !== 'function') throw new InvalidArgumentError('now', 'must be a function that returns a Date');
  checkBudgets(budgets);
  const secret = Secret.from(key);
  try {
    return openSqlite({ path, secret, now, budgets });
  } finally {
    secret.wipe();
  }
}

/** Picks the backend that the config names. */
export const DatabaseFactory = { open: openDeviceStorage } as const;
