import type { SmartInventory } from './inventory';
import type { Outbox } from './outbox';
import type { PendingRequests } from './pending-requests';
import type { SecureVault } from './vault';

/** One device's storage: everything lies in one encrypted place, so that one step can change all of it. */
export interface DeviceStorage {
  readonly backend: 'sqlite' | 'redis';
  readonly vault: SecureVault;
  readonly inventory: SmartInventory;
  /** For publishCoins and reconcileCoins. */
  readonly outbox: Outbox;
  /** For topUp and fetchOnDemand. */
  readonly pendingRequests: PendingRequests;
  /**
   * Erases what was burned, selected or purged before the call from every file of the storage, where older images of it
   * may lie encrypted (SQLite: its WAL goes into the file) or as it was (Redis: its append-only file and snapshot are
   * written anew). Takes as long as writing the storage once. Rejects with StorageBusyError when other processes leave
   * it no moment for 5 s (SQLite), with UnreachableError when the server fails (Redis); call it again then.
   */
  cleanUp(): Promise<void>;
  /** Everything used afterwards rejects with ClosedError. Closing twice is fine. */
  close(): Promise<void>;
}
