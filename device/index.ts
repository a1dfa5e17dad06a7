/** The on-device library of AQM. Code outside the library imports only this file. */

// Must be the first import, because compiled imports run in order.
import './require-node';

export { CoinServiceClient } from '../gen/aqm/coin/v1/coin_service';
export { type BackupReport, backupDeviceStorage, restoreDeviceStorage } from './backup-device-storage';
export { type BudgetTable, type ContactPriority, DEFAULT_BUDGETS } from './contract/budget';
export type { CoinCategoryName } from './contract/coin-category';
export type { DeviceStorage } from './contract/device-storage';
export type { CoinName, ContactSummary, InventoryCoin, SmartInventory } from './contract/inventory';
export type { MintedCoin } from './contract/outbox';
export type { ContactAddress, DiscardedCoin } from './contract/pending-requests';
export type { NewVaultKey, SecureVault, VaultEntry, VaultKeyStatus } from './contract/vault';
export type { AutoConfig, DeviceStorageConfig, RedisConfig, SqliteConfig } from './device-config';
export {
  BackendRecordError,
  ClosedError,
  DeviceError,
  InvalidArgumentError,
  KeyMissingError,
  MoveOvertakenError,
  MoveVerificationError,
  NewerSchemaError,
  NotADatabaseError,
  OlderStorageError,
  StorageBusyError,
  StorageCorruptedError,
  StorageFullError,
  StorageMissingError,
  StorageMovedError,
  TargetNotEmptyError,
  UnreachableError,
  WrongKeyError,
} from './errors';
export { type FetchOnDemandWish, fetchOnDemand } from './flows/fetch-on-demand';
export { type PublishOutcome, type PublishReport, type PublishResult, publishCoins } from './flows/publish-coins';
export {
  type ReconcileOutcome,
  type ReconcileReport,
  type ReconcileResult,
  reconcileCoins,
} from './flows/reconcile-coins';
export type { RetryPolicy } from './flows/retries';
export type { CoinServiceAccess } from './flows/service-call';
export { type ContactTopUp, type TopUpReport, topUp } from './flows/top-up';
export { type MoveReport, moveDeviceStorage } from './move-device-storage';
export { DatabaseFactory, openDeviceStorage } from './open-device-storage';
export { rekeyDeviceStorage } from './rekey-device-storage';
export type { DeviceStorageWarning } from './warning';
