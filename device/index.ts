/** The on-device library of AQM: the only file that others import. */

// Compiled imports run in order.
import './require-node';

export { CoinServiceClient } from '../gen/aqm/coin/v1/coin_service';
export { type BudgetTable, type ContactPriority, DEFAULT_BUDGETS } from './budget';
export type { CoinCategoryName } from './coin-category';
export { type CopyReport, copyDeviceStorage } from './copy-device-storage';
export type { AutoConfig, DeviceStorageConfig, RedisConfig, SqliteConfig } from './device-config';
export type { DeviceStorage } from './device-storage';
export {
  BackendRecordError,
  ClosedError,
  CopyOvertakenError,
  CopyVerificationError,
  DeviceError,
  InvalidArgumentError,
  KeyMissingError,
  NewerSchemaError,
  NotADatabaseError,
  StorageBusyError,
  StorageCorruptedError,
  StorageFullError,
  StorageMovedError,
  TargetNotEmptyError,
  UnreachableError,
  WrongKeyError,
} from './errors';
export { type FetchOnDemandWish, fetchOnDemand } from './fetch-on-demand';
export type { CoinName, ContactSummary, InventoryCoin, SmartInventory } from './inventory';
export { DatabaseFactory, openDeviceStorage } from './open-device-storage';
export type { ContactAddress, DiscardedCoin } from './open-requests';
export type { MintedCoin } from './outbox';
export { type PublishOutcome, type PublishReport, type PublishResult, publishCoins } from './publish-coins';
export {
  type ReconcileOutcome,
  type ReconcileReport,
  type ReconcileResult,
  reconcileCoins,
} from './reconcile-coins';
export { rekeyDeviceStorage } from './rekey-device-storage';
export type { RetryPolicy } from './retries';
export type { CoinServiceAccess } from './service-call';
export { type ContactTopUp, type TopUpReport, topUp } from './top-up';
export type { NewVaultKey, SecureVault, VaultEntry, VaultKeyStatus } from './vault';
export type { DeviceStorageWarning } from './warning';
