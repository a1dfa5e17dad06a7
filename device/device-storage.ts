import type { SmartInventory } from './inventory';
import type { OpenRequests } from './open-requests';
import type { Outbox } from './outbox';
import type { SecureVault } from './vault';

/** One device's storage: everything lies in one encrypted place, so that one step can change all of it. */
export interface DeviceStorage {
  readonly backend: 'sqlite' | 'redis';
  readonly vault: SecureVault;
  readonly inventory: SmartInventory;
  /** For publishCoins. */
  readonly outbox: Outbox;
  /** For topUp and fetchOnDemand. */
  readonly openRequests: OpenRequests;
  /** Everything used afterwards rejects with ClosedError. Closing twice is fine. */
  close(): Promise<void>;
}
