import type { ContactPriority } from './budget';
import type { CoinCategoryName } from './coin-category';
import type { BackendName, DeviceClock, DeviceStorage } from './device-storage';
import type { CoinName, ContactSummary, DeviceSelection, InventoryCoin } from './inventory';
import type { Outbox, RefusedCoin } from './outbox';
import type { BoundOwner, StorageOwner } from './owner';
import type { PendingRequest, PendingRequests, SettledRequest } from './pending-requests';
import type { CheckedInventoryCoin, CheckedMintedCoin, CheckedVaultKey } from './validate';
import type { SecureVault } from './vault';

/**
 * The interface that each backend implements, behind the layer that checks arguments
 * (validated-storage.ts). An engine gets only checked values, with defaults filled in, ids in lower case and bytes that
 * belong to it, and therefore checks none of them again. It still refuses calls after close, and names the failures of
 * its storage.
 */
export interface StorageEngine extends Pick<DeviceStorage, 'cleanUp' | 'close'> {
  readonly backend: BackendName;
  readonly generation?: number;
  backUp?(target: string): Promise<void>;
  readonly vault: VaultEngine;
  readonly inventory: InventoryEngine;
  readonly outbox: OutboxEngine;
  readonly pendingRequests: PendingRequestsEngine;
  readonly clock: EngineClock;
  readonly owner: OwnerEngine;
}

/** The engine's part of SecureVault, with the same promises. */
export interface VaultEngine extends Pick<SecureVault, 'fetchKey' | 'burnKey' | 'getStatus' | 'countActive'> {
  storeKey(key: CheckedVaultKey): Promise<boolean>;
  /** Lists the ids of the active keys of these categories, in ascending order. */
  listKeyIds(categories: readonly CoinCategoryName[]): Promise<string[]>;
  /** Destroys keys past their `expiresAt` and keys created more than `maxAgeDays` ago, and returns their number. */
  purgeExpired(maxAgeDays: number): Promise<number>;
}

/** The engine's part of SmartInventory, with the same promises. An empty device id is the unnamed device. */
export interface InventoryEngine {
  storeKey(coin: CheckedInventoryCoin): Promise<boolean>;
  /** Takes out the next coin of the first of these categories in which the device has a usable one. */
  selectCoin(
    contactId: string,
    deviceId: string,
    categories: readonly CoinCategoryName[],
  ): Promise<InventoryCoin | null>;
  /** Does the same for every known device, in one atomic step. */
  selectCoins(contactId: string, categories: readonly CoinCategoryName[]): Promise<DeviceSelection[]>;
  getPriority(contactId: string): Promise<ContactPriority>;
  setPriority(contactId: string, priority: ContactPriority): Promise<{ evicted: CoinName[] }>;
  getSummary(contactId?: string): Promise<ContactSummary[]>;
  listContacts(): Promise<string[]>;
  getTotalStorageBytes(): Promise<number>;
  garbageCollect(inactiveDays: number): Promise<number>;
  forgetContact(contactId: string): Promise<number>;
  dropCachedCoins(): Promise<number>;
}

/** The engine's part of Outbox, with the same promises. No list that it gets is empty, or longer than STEP_ITEMS. */
export interface OutboxEngine extends Omit<Outbox, 'add'> {
  add(coins: readonly CheckedMintedCoin[]): Promise<RefusedCoin[]>;
}

/**
 * The engine's part of PendingRequests, with the same promises. Lists of device ids are sorted, in lower case, without
 * duplicates.
 */
export interface PendingRequestsEngine extends Omit<PendingRequests, 'settleTopUp' | 'discard' | 'settleOnDemand'> {
  settleTopUp(request: PendingRequest, coins: readonly CheckedInventoryCoin[]): Promise<SettledRequest>;
  discard(contactId: string, coins: readonly CheckedInventoryCoin[]): Promise<void>;
  settleOnDemand(request: PendingRequest, coins: readonly CheckedInventoryCoin[]): Promise<boolean[]>;
}

/** The engine's part of OwnerBinding. Ids are in lower case. */
export interface OwnerEngine {
  read(): Promise<BoundOwner | null>;
  /** Binds the storage unless it is bound, and returns its owner. */
  bind(owner: StorageOwner): Promise<BoundOwner | null>;
  recordRemoval(): Promise<void>;
}

/** The engine's part of DeviceClock. */
export interface EngineClock extends DeviceClock {
  /**
   * Returns the time that something stored now gets, in milliseconds since 1970; a promise only if the storage must be
   * asked. Throws or rejects with ClockError if the clock is behind, so that it would be a time of the past.
   */
  nowToStore(): number | Promise<number>;
}
