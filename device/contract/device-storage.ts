import type { SmartInventory } from './inventory';
import type { Outbox } from './outbox';
import type { PendingRequests } from './pending-requests';
import type { SecureVault } from './vault';

/** The name of an engine that can keep a device's data. */
export type BackendName = 'sqlite' | 'redis';

/** What `maintain` removed. */
export interface MaintenanceReport {
  /** The number of private halves destroyed, see SecureVault.purgeExpired. */
  readonly purgedKeys: number;
  /** The number of coins removed from inactive contacts, see SmartInventory.garbageCollect. */
  readonly collectedCoins: number;
}

/** One device's storage. Everything lies in one encrypted place, so that a single atomic step can change all of it. */
export interface DeviceStorage {
  readonly backend: BackendName;
  readonly vault: SecureVault;
  readonly inventory: SmartInventory;
  /** Used by publishCoins and reconcileCoins. */
  readonly outbox: Outbox;
  /** Used by topUp and fetchOnDemand. */
  readonly pendingRequests: PendingRequests;
  /**
   * Erases everything that was burned, selected or purged before the call from every file of the storage. Older images
   * of it may lie there encrypted (SQLite: the WAL is written back into the file) or in the clear (Redis: the
   * append-only file and the snapshot are rewritten). Takes as long as writing the storage once. Rejects with
   * StorageBusyError if other processes keep the file busy for 5 s (SQLite), and with UnreachableError if the server
   * fails (Redis); the call can then be repeated.
   */
  cleanUp(): Promise<void>;
  /**
   * Does the regular housekeeping: `vault.purgeExpired()`, `inventory.garbageCollect()` and `cleanUp()`, with their
   * defaults and errors. To be called once a day. If it rejects, calling it again does the rest.
   */
  maintain(): Promise<MaintenanceReport>;
  /** Closes the storage. Every later call rejects with ClosedError. Closing twice has no further effect. */
  close(): Promise<void>;
}
