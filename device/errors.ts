/**
 * Everything that the device library itself throws. Messages and fields never hold key bytes, blobs, tokens or
 * passphrases; `cause` keeps the engine's own error where there is one.
 */
export abstract class DeviceError extends Error {
  abstract override readonly name: string;
}

/** An argument was refused; nothing changed. */
export class InvalidArgumentError extends DeviceError {
  override readonly name = 'InvalidArgumentError';

  constructor(
    /** The refused argument, for example `expiresAt`. */
    readonly field: string,
    /** What is allowed. */
    readonly allowed: string,
  ) {
    super(`${field} ${allowed}.`);
  }
}

/** The storage was closed by this process. */
export class ClosedError extends DeviceError {
  override readonly name = 'ClosedError';

  constructor() {
    super('This device storage is closed; open it again.');
  }
}

/** The key is not the one that the storage was made with, or its first page is damaged: the two look the same. */
export class WrongKeyError extends DeviceError {
  override readonly name = 'WrongKeyError';

  constructor(
    readonly path: string,
    options?: ErrorOptions,
  ) {
    super(`The key does not open ${path}.`, options);
  }
}

/** No key was given. */
export class KeyMissingError extends DeviceError {
  override readonly name = 'KeyMissingError';

  constructor() {
    super('key is missing: give 32 bytes (a raw key) or a text that is not empty (a passphrase).');
  }
}

/** What lies at the path cannot be an encrypted device storage. It was not touched. */
export class NotADatabaseError extends DeviceError {
  override readonly name = 'NotADatabaseError';

  constructor(
    readonly path: string,
    /** What it is instead. */
    readonly found: string,
    options?: ErrorOptions,
  ) {
    super(`${path} is ${found}, not an encrypted device storage.`, options);
  }
}

/** A newer release of this library wrote the storage. It was not touched. */
export class NewerSchemaError extends DeviceError {
  override readonly name = 'NewerSchemaError';

  constructor(
    readonly found: number,
    readonly supported: number,
  ) {
    super(`The storage has layout ${found}, this release knows up to ${supported}: update the device library.`);
  }
}

/**
 * The storage cannot be reached or may not be written: no such folder, no permission, a failing disk, no answer from the
 * server. With Redis an operation whose answer was lost may have been carried out; with SQLite nothing was changed.
 */
export class UnreachableError extends DeviceError {
  override readonly name = 'UnreachableError';

  constructor(
    readonly path: string,
    options?: ErrorOptions,
  ) {
    super(`The device storage at ${path} cannot be read and written.`, options);
  }
}

/** No space is left. The operation changed nothing; free some space and repeat it. */
export class StorageFullError extends DeviceError {
  override readonly name = 'StorageFullError';

  constructor(options?: ErrorOptions) {
    super('The device storage is full; nothing was changed.', options);
  }
}

/** Another process kept the storage locked for too long. The operation changed nothing; repeat it. */
export class StorageBusyError extends DeviceError {
  override readonly name = 'StorageBusyError';

  constructor(
    /** How long this process waited, in milliseconds. */
    readonly waitedMs: number,
    options?: ErrorOptions,
  ) {
    super(`Another process held the device storage for more than ${waitedMs} ms; nothing was changed.`, options);
  }
}

/** The stored bytes are damaged: a page fails its authentication, or the file's structure is broken. */
export class StorageCorruptedError extends DeviceError {
  override readonly name = 'StorageCorruptedError';

  constructor(options?: ErrorOptions) {
    super('The device storage is damaged.', options);
  }
}

/**
 * The record beside an `auto` device's path, which names the backend that holds its keys, cannot be read or names no
 * backend that this release knows. Nothing was opened: the other backend would look empty. Write it anew by hand, or
 * restore it, when you know which one it was.
 */
export class BackendRecordError extends DeviceError {
  override readonly name = 'BackendRecordError';

  constructor(
    /** The record's file. */
    readonly path: string,
    /** What is wrong with it. */
    readonly found: string,
    options?: ErrorOptions,
  ) {
    super(`The record of this device's backend at ${path} ${found}.`, options);
  }
}

/**
 * The storage is on one side of a copy, see moveDeviceStorage, and must not be used: MOVING or MOVED, its keys are on
 * their way or have arrived elsewhere; RECEIVING, they have not all arrived here.
 */
export class StorageMovedError extends DeviceError {
  override readonly name = 'StorageMovedError';

  constructor(
    /** Where the storage is. */
    readonly path: string,
    readonly state: 'MOVING' | 'MOVED' | 'RECEIVING',
  ) {
    super(
      {
        MOVING: `The keys of the device storage at ${path} are being moved: run moveDeviceStorage again to finish.`,
        MOVED: `The keys of the device storage at ${path} were moved to another storage: open that one.`,
        RECEIVING: `The device storage at ${path} has not received all keys: run moveDeviceStorage again to finish.`,
      }[state],
    );
  }
}

/** The target of a copy holds other data, or takes part in another copy. Nothing was changed. */
export class TargetNotEmptyError extends DeviceError {
  override readonly name = 'TargetNotEmptyError';

  constructor(readonly path: string) {
    super(`The device storage at ${path} is not empty; a copy needs a new one.`);
  }
}

/** What arrived is not what was sent. The source keeps everything and stays closed; run moveDeviceStorage again. */
export class MoveVerificationError extends DeviceError {
  override readonly name = 'MoveVerificationError';

  constructor(
    /** What differs, for example `vault keys`. */
    readonly differing: string,
  ) {
    super(`The copied ${differing} are not those of the source.`);
  }
}

/** Another call carried on with the same copy meanwhile. Nothing was changed by this one; run it again if need be. */
export class MoveOvertakenError extends DeviceError {
  override readonly name = 'MoveOvertakenError';

  constructor(readonly path: string) {
    super(`Another copy of the device storage at ${path} is under way.`);
  }
}
