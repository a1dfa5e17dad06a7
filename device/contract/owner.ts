/** The user, and the device of that user, to whom a storage belongs (promise 9). */
export interface StorageOwner {
  /** UUID in any case; kept in lower case. */
  readonly userId: string;
  /** UUID in any case; kept in lower case. Absent for the unnamed device of an app with one device per user. */
  readonly deviceId?: string;
}

/** The facts that a storage knows about its owner. */
export interface BoundOwner extends StorageOwner {
  /** True if the coin service has refused this device, because the user removed it. */
  readonly isRemoved?: true;
}

/**
 * A storage serves one user and device only: with the token of another account, publishCoins would put this user's
 * coins into the other's stock. It is bound once, by the config's `owner` or by the first publishCoins or
 * reconcileCoins, whose token says in `sub` (and `device_id`) for whom it acts.
 */
export interface OwnerBinding {
  /** Returns the owner, or null if the storage is not bound yet. */
  read(): Promise<BoundOwner | null>;
  /** Binds the storage if it is not bound yet. Rejects with WrongOwnerError if it belongs to another one. */
  bind(owner: StorageOwner): Promise<void>;
  /** Rejects with WrongOwnerError if the storage is bound to another one. */
  check(owner: StorageOwner): Promise<void>;
  /** Remembers for good that the coin service has refused this device, because the user removed it. Needs an owner. */
  recordRemoval(): Promise<void>;
}

/** Returns true if both may be the same: a device that one of them does not name is not compared. */
export function isSameOwner(one: StorageOwner, other: StorageOwner): boolean {
  if (one.userId !== other.userId) return false;
  return one.deviceId === undefined || other.deviceId === undefined || one.deviceId === other.deviceId;
}
