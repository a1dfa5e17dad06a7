import type { SmartInventory } from './inventory';
import type { Outbox } from './outbox';
import type { PendingRequests } from './pending-requests';
import type { SecureVault } from './vault';

/** The name of an engine that can keep a device's data. */
export type BackendName = 'sqlite' | 'redis';

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
   * A number that grows with every opening and every backup; the app may keep the last one outside of the storage, see
   * SqliteConfig. Undefined on Redis.
   */
  readonly generation: number | undefined;
  /** Used by backupDeviceStorage. Undefined on Redis. */
  readonly backUp: ((target: string) => Promise<void>) | undefined;
  /**
   * Erases everything that was burned, selected or purged before the call from every file of the storage. Older images
   * of it may lie there encrypted (SQLite: the WAL is written back into the file) or in the clear (Redis: the
   * append-only file and the snapshot are rewritten). Takes as long as writing the storage once. Rejects with
   * StorageBusyError if other processes keep the file busy for 5 s (SQLite), and with UnreachableError if the server
   * fails (Redis); the call can then be repeated.
   */
  cleanUp(): Promise<void>;
  /** Closes the storage. Every later call rejects with ClosedError. Closing twice has no further effect. */
  close(): Promise<void>;
}
