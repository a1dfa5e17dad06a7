import type { SmartInventory } from './inventory';
import type { Outbox } from './outbox';
import type { OwnerBinding } from './owner';
import type { PendingRequests } from './pending-requests';
import type { SecureVault } from './vault';

/** The name of an engine that can keep a device's data. */
export type BackendName = 'sqlite' | 'redis';

/** The numbers of things that `maintain` removed. */
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
  /** Compares the device's clock with others, so that a wrong one destroys nothing. */
  readonly clock: DeviceClock;
  /** The user and device to whom the storage belongs. */
  readonly owner: OwnerBinding;
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
  /**
   * Does the regular housekeeping: `vault.purgeExpired()`, `inventory.garbageCollect()` and `cleanUp()`, with their
   * defaults and errors. To be called once a day. If it rejects, calling it again does the rest.
   */
  maintain(): Promise<MaintenanceReport>;
  /** Closes the storage. Every later call rejects with ClosedError. Closing twice has no further effect. */
  close(): Promise<void>;
}

/**
 * Decides if the device's clock is trusted (promise 5). The storage keeps the latest time that it trusted. A clock that
 * differs from it by more than `maxClockJumpMs` is trusted again when the flows have compared it with the coin service's.
 * Until then nothing that a clock decides is destroyed: purgeExpired, garbageCollect and the flows reject with
 * ClockError, and what expired is not used, but kept.
 */
export interface DeviceClock {
  /**
   * Returns the later one of the device's clock and the trusted time, in milliseconds since 1970. What has expired by
   * it is not used. Throws InvalidArgumentError if the clock gives no valid Date.
   */
  now(): number;
  /** Rejects with ClockError if the device's clock is not trusted. */
  check(): Promise<void>;
  /**
   * Compares the device's clock with a time known to be right, such as the coin service's. If they agree, the clock is
   * trusted from now on. Otherwise rejects with ClockError.
   */
  confirm(time: Date): Promise<void>;
}
