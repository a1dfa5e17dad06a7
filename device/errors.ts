import type { CoinCategoryName } from '../gen/aqm/coin/v1/coin_categories';

/**
 * Base class of all errors that the device library itself throws. Messages and fields never hold key bytes, blobs,
 * tokens or passphrases. `cause` is the engine's own error, if there is one.
 */
export abstract class DeviceError extends Error {
  abstract override readonly name: string;
}

/** An argument was refused. Nothing was changed. */
export class InvalidArgumentError extends DeviceError {
  override readonly name = 'InvalidArgumentError';

  constructor(
    /** The refused argument, for example `expiresAt`. */
    readonly field: string,
    /** The rule that it breaks, for example `must be a Date in the future`. */
    readonly allowed: string,
  ) {
    super(`${field} ${allowed}.`);
  }
}

/** The storage was used after this process closed it. */
export class ClosedError extends DeviceError {
  override readonly name = 'ClosedError';

  constructor() {
    super('This device storage is closed; open it again.');
  }
}

/** The key is not the one that the storage was created with, or the first page is damaged. The two look the same. */
export class WrongKeyError extends DeviceError {
  override readonly name = 'WrongKeyError';

  constructor(
    readonly path: string,
    options?: ErrorOptions,
  ) {
    super(`The key does not open ${path}; pass the key that it was created with.`, options);
  }
}

/** The config has no key. */
export class KeyMissingError extends DeviceError {
  override readonly name = 'KeyMissingError';

  constructor() {
    super('key is required: pass a 32-byte raw key or a non-empty passphrase.');
  }
}

/** The file or server at the path does not hold an encrypted device storage. It was not changed. */
export class NotADatabaseError extends DeviceError {
  override readonly name = 'NotADatabaseError';

  constructor(
    readonly path: string,
    /** Names the thing that was found instead, for example `an SQLite file without encryption`. */
    readonly found: string,
    options?: ErrorOptions,
  ) {
    super(`${path} is ${found}, not an encrypted device storage.`, options);
  }
}

/** A newer release of this library wrote the storage. It was not changed. */
export class NewerSchemaError extends DeviceError {
  override readonly name = 'NewerSchemaError';

  constructor(
    readonly found: number,
    readonly supported: number,
  ) {
    super(`The storage has layout ${found}, but this release supports up to ${supported}; update the device library.`);
  }
}

/**
 * The storage cannot be reached or written: no such folder, no permission, a failing disk, no reply from the server.
 * With Redis an operation whose reply was lost may have been carried out; with SQLite nothing was changed.
 */
export class UnreachableError extends DeviceError {
  override readonly name = 'UnreachableError';

  constructor(
    readonly path: string,
    options?: ErrorOptions,
  ) {
    super(`Cannot read or write the device storage at ${path}.`, options);
  }
}

/**
 * There is no storage where one must be: none is at the path or on the server although `create` is false or an `auto`
 * device was opened before; or its file was removed or replaced, its server has lost it, or another server answers in
 * its place. Nothing was created or changed. A new storage in its place would look like an empty vault, and
 * reconcileCoins would then retire the device's whole stock.
 */
export class StorageMissingError extends DeviceError {
  override readonly name = 'StorageMissingError';

  constructor(
    /** The missing file, or the server that does not know the device. */
    readonly path: string,
    options?: ErrorOptions,
  ) {
    super(
      `The device storage at ${path} is gone; restore it from a backup, or open it with create: true and call reconcileCoins.`,
      options,
    );
  }
}

/**
 * The storage is an older copy of itself that was put back: what was burned or used since would be used again. Nothing
 * was changed.
 */
export class OlderStorageError extends DeviceError {
  override readonly name = 'OlderStorageError';

  constructor(
    readonly path: string,
    /** The number of the storage's generation. */
    readonly found: number,
    /** The number that the app has kept. */
    readonly kept: number,
  ) {
    super(
      `The device storage at ${path} is an older copy, of generation ${found} instead of ${kept}; call restoreDeviceStorage, then reconcileCoins.`,
    );
  }
}

/** The Redis server is one that must not keep a device storage. Nothing was created or changed. */
export class UnsuitableServerError extends DeviceError {
  override readonly name = 'UnsuitableServerError';

  constructor(
    /** The address of the server. */
    readonly path: string,
    /** VOLATILE: it loses keys in a restart, or evicts them. CLUSTER: it is a node of a cluster. */
    readonly reason: 'VOLATILE' | 'CLUSTER',
    /** The setting that is unsuitable, for example `appendonly no`. */
    readonly found: string,
  ) {
    super(
      `The Redis server at ${path} has ${found}, ${
        {
          VOLATILE: 'so it may lose keys; use the settings of deploy/redis.conf, or pass allowVolatile: true.',
          CLUSTER: 'but a cluster is not supported; use a server without cluster-enabled.',
        }[reason]
      }`,
    );
  }
}

/** No space is left. Nothing was changed; the operation can be repeated after space was freed. */
export class StorageFullError extends DeviceError {
  override readonly name = 'StorageFullError';

  constructor(options?: ErrorOptions) {
    super('The device storage is full and nothing was changed; free some space and repeat the operation.', options);
  }
}

/** Another process kept the storage locked for too long. Nothing was changed; the operation can be repeated. */
export class StorageBusyError extends DeviceError {
  override readonly name = 'StorageBusyError';

  constructor(
    /** The time that this process waited, in milliseconds. */
    readonly waitedMs: number,
    options?: ErrorOptions,
  ) {
    super(
      `Another process kept the device storage locked for more than ${waitedMs} ms and nothing was changed; repeat the operation.`,
      options,
    );
  }
}

/**
 * The stored data is damaged: a page fails its authentication, the structure of the file is broken, or an entry was not
 * written by this library.
 */
export class StorageCorruptedError extends DeviceError {
  override readonly name = 'StorageCorruptedError';

  constructor(options?: ErrorOptions) {
    super(
      'The device storage is damaged; replace it by a new one and call reconcileCoins with { retireMany: true }.',
      options,
    );
  }
}

/**
 * The record beside an `auto` device's path, which names the backend that holds its keys, cannot be read or names no
 * backend that this release knows. Nothing was opened, because the wrong backend would look empty. Restore the record,
 * or write it by hand if you know which backend it was.
 */
export class BackendRecordError extends DeviceError {
  override readonly name = 'BackendRecordError';

  constructor(
    /** The file of the record. */
    readonly path: string,
    /** The fault, for example `cannot be read`. */
    readonly found: string,
    options?: ErrorOptions,
  ) {
    super(`The record of this device's backend at ${path} ${found}; restore it before opening the device.`, options);
  }
}

/**
 * The storage takes part in a move, see moveDeviceStorage, and must not be used. MOVING: its keys are being moved to
 * another storage. MOVED: they have all arrived there. RECEIVING: this is the target, and not all keys have arrived.
 */
export class StorageMovedError extends DeviceError {
  override readonly name = 'StorageMovedError';

  constructor(
    /** The file or the server of the storage. */
    readonly path: string,
    readonly state: 'MOVING' | 'MOVED' | 'RECEIVING',
  ) {
    super(
      {
        MOVING: `The keys of the device storage at ${path} are being moved; call moveDeviceStorage again to finish.`,
        MOVED: `The keys of the device storage at ${path} were moved to another storage; open that one.`,
        RECEIVING: `The device storage at ${path} has not received all keys; call moveDeviceStorage again to finish.`,
      }[state],
    );
  }
}

/**
 * reconcileCoins would retire more than half of a category's stock at the coin service, because the vault holds no
 * private halves for it. Nothing was retired, in any category.
 */
export class RetireManyError extends DeviceError {
  override readonly name = 'RetireManyError';

  constructor(
    /** The categories concerned: how many coins are in stock, and how many of them would be retired. */
    readonly categories: readonly {
      readonly coinCategory: CoinCategoryName;
      readonly available: number;
      readonly wouldRetire: number;
    }[],
  ) {
    const counts = categories.map(
      ({ coinCategory, available, wouldRetire }) => `${wouldRetire} of ${available} ${coinCategory} coins`,
    );
    super(
      `The vault has no private half for ${counts.join(' and ')} in stock, and nothing was retired; check that the right storage is open and that the clock is right, then pass { retireMany: true } to retire them for ever.`,
    );
  }
}

/** The target of a move holds other data, or takes part in another move. Nothing was changed. */
export class TargetNotEmptyError extends DeviceError {
  override readonly name = 'TargetNotEmptyError';

  constructor(readonly path: string) {
    super(`The device storage at ${path} is not empty; pass a new one as the target of the move.`);
  }
}

/**
 * The records in the target differ from those of the source. The source keeps everything and stays closed until
 * moveDeviceStorage was called again.
 */
export class MoveVerificationError extends DeviceError {
  override readonly name = 'MoveVerificationError';

  constructor(
    /** The kind of the records that differ, for example `vault_key`. */
    readonly differing: string,
  ) {
    super(
      `The ${differing} records in the target differ from those of the source, which keeps everything; call moveDeviceStorage again.`,
    );
  }
}

/** Another call of moveDeviceStorage took over the same move. This call changed nothing since. */
export class MoveOvertakenError extends DeviceError {
  override readonly name = 'MoveOvertakenError';

  constructor(readonly path: string) {
    super(
      `Another call took over the move of the device storage at ${path}; if that one fails, call moveDeviceStorage again.`,
    );
  }
}

/**
 * The device's clock differs by more than `maxClockJumpMs` (default one day) from a time that is known to be right.
 * Nothing was changed: a step that destroys by time does not rest on such a clock. Correct the device's date and repeat
 * the call. If the date is right, because the device was off for days, any flow that reaches the coin service confirms
 * it.
 */
export class ClockError extends DeviceError {
  override readonly name = 'ClockError';

  constructor(
    readonly deviceTime: Date,
    /** The time that contradicts the device's clock. */
    readonly otherTime: Date,
    /** STORAGE: the latest time that this storage trusted. SERVICE: the time of the coin service. */
    readonly witness: 'STORAGE' | 'SERVICE',
  ) {
    super(
      `The device's clock says ${deviceTime.toISOString()}, but ${
        witness === 'STORAGE'
          ? `the storage last trusted ${otherTime.toISOString()}; nothing was changed. Correct the device's date, or call a flow such as topUp or publishCoins while the coin service can be reached, which confirms it.`
          : `the coin service says ${otherTime.toISOString()}; nothing was changed. Correct the device's date and repeat the call.`
      }`,
    );
  }
}

/**
 * The coin service gave fetchOnDemand or fetchForDevices a coin that must not be used. The coin is consumed, and its
 * request is closed.
 */
export class UnusableCoinError extends DeviceError {
  override readonly name = 'UnusableCoinError';

  constructor(
    /**
     * - MALFORMED: it is not what was requested, has wrong sizes, or expires later than any coin may.
     * - BAD_SIGNATURE: `verify` refused it. Its id is remembered as used.
     * - ALREADY_USED: this device used the contact's coin with that id before.
     * - EXPIRED: its expiry has passed by the device's clock.
     */
    readonly reason: 'MALFORMED' | 'BAD_SIGNATURE' | 'ALREADY_USED' | 'EXPIRED',
  ) {
    super(
      {
        MALFORMED:
          'The coin service gave a coin that is malformed or was not requested, which was discarded; fetch again for another one.',
        BAD_SIGNATURE:
          "The coin service gave a coin that `verify` refused, which was discarded; check the contact's identity key, then fetch again.",
        ALREADY_USED: 'The coin service gave a coin that this device has used before; fetch again for another one.',
        EXPIRED:
          "The coin service gave a coin that has expired by this device's clock; set the clock, then fetch again.",
      }[reason],
    );
  }
}

/** The form of StorageOwner (contract/owner.ts). */
interface Owner {
  readonly userId: string;
  readonly deviceId?: string;
}

/**
 * The storage belongs to another user or device than the one in the config or in the token. Nothing was sent or changed.
 * Each account of an app needs a storage of its own.
 */
export class WrongOwnerError extends DeviceError {
  override readonly name = 'WrongOwnerError';

  constructor(
    /** The user, and the device if it is known, to whom the storage belongs. */
    readonly owner: Owner,
    /** The ones for whom it was to be used. */
    readonly given: Owner,
  ) {
    super(
      `The device storage belongs to ${shown(owner)}, not to ${shown(given)}; open the storage of that account, or log in as its owner.`,
    );
  }
}

function shown({ userId, deviceId }: Owner): string {
  return deviceId === undefined ? `user ${userId}` : `device ${deviceId} of user ${userId}`;
}
