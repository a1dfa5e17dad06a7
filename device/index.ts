/** The on-device library of AQM. Code outside the library imports only this file. */

// Must be the first import, because compiled imports run in order.
import './require-node';

export { CoinServiceError, type FieldViolation } from '../coin-client/coin-service-error';
export type { CoinServiceClient } from '../gen/aqm/coin/v1/coin_service';
export { type BackupReport, backupDeviceStorage, restoreDeviceStorage } from './backup-device-storage';
export { type BudgetTable, type ContactPriority, DEFAULT_BUDGETS } from './contract/budget';
export type { CoinCategoryName } from './contract/coin-category';
export { type CoinToSign, coinBytesToSign } from './contract/coin-signature';
export type { DeviceStorage, MaintenanceReport } from './contract/device-storage';
export type {
  CoinName,
  ContactSummary,
  DeviceSelection,
  DeviceSummary,
  InventoryCoin,
  SmartInventory,
} from './contract/inventory';
export type { MintedCoin } from './contract/outbox';
export type { OwnerBinding, StorageOwner } from './contract/owner';
export type { ContactAddress, DiscardedCoin } from './contract/pending-requests';
export {
  DELIVERY_WINDOW_DAYS,
  type NewVaultKey,
  type SecureVault,
  type VaultEntry,
  type VaultKeyStatus,
} from './contract/vault';
export type { AutoConfig, DeviceStorageConfig, RedisConfig, SqliteConfig } from './device-config';
export {
  BackendRecordError,
  ClockError,
  ClosedError,
  DeviceError,
  InvalidArgumentError,
  KeyMissingError,
  MoveOvertakenError,
  MoveVerificationError,
  NewerSchemaError,
  NotADatabaseError,
  OlderStorageError,
  RetireManyError,
  StorageBusyError,
  StorageCorruptedError,
  StorageFullError,
  StorageMissingError,
  StorageMovedError,
  TargetNotEmptyError,
  UnreachableError,
  UnsuitableServerError,
  UnusableCoinError,
  WrongKeyError,
  WrongOwnerError,
} from './errors';
export type { DeviceFetch, FetchForDevicesWish } from './flows/fetch-for-devices';
export type { FetchOnDemandWish } from './flows/fetch-on-demand';
export type { FetchOptions } from './flows/fetched-coin';
export type { PublishOutcome, PublishReport, PublishResult } from './flows/publish-coins';
export type { ReconcileOptions, ReconcileOutcome, ReconcileReport, ReconcileResult } from './flows/reconcile-coins';
export type { RetryPolicy } from './flows/retries';
export type { CoinServiceAccess } from './flows/service-call';
export type { TopUpReport } from './flows/top-up';
export type { ContactTopUp, DeviceTopUp } from './flows/top-up-draft';
export { fetchForDevices, fetchOnDemand, publishCoins, reconcileCoins, topUp } from './load-flows';
export { type MoveReport, moveDeviceStorage } from './move-device-storage';
export { DatabaseFactory, openDeviceStorage } from './open-device-storage';
export { rekeyDeviceStorage } from './rekey-device-storage';
export type { DeviceStorageWarning } from './warning';

// CommonJS code finds the class here, too. ES modules import it from aqm-database/client: Node does not list a getter of
// this form as an export, which it would read, and thereby load gRPC, at every import of the library.
Object.defineProperty(exports, 'CoinServiceClient', {
  get: () => require('../gen/aqm/coin/v1/coin_service').CoinServiceClient,
});
