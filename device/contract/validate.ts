import { isDate, isUint8Array } from 'node:util/types';
import { InvalidArgumentError } from '../errors';
import { CONTACT_PRIORITIES, type ContactPriority, isContactPriority } from './budget';
import { COIN_CATEGORY_NAMES, type CoinCategoryName, isCoinCategoryName, specOf } from './coin-category';
import type { InventoryCoin } from './inventory';
import type { MintedCoin } from './outbox';
import type { StorageOwner } from './owner';
import { type ContactAddress, MAX_CONTACT_DEVICES, type OnDemandWish } from './pending-requests';
import { CLOCK_SKEW_MS, type NewVaultKey, VAULT_LIFETIME_DAYS } from './vault';

/*
 * The rules for arguments, which are the same for every backend. Every check… function returns the normalized value, or
 * throws an InvalidArgumentError that names the field. validated-storage.ts applies them.
 */

export const DAY_MS = 24 * 60 * 60_000;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const NIL_UUID = '00000000-0000-0000-0000-000000000000';
const MAX_CONTACT_ID_CHARACTERS = 128;
const MAX_BLOB_BYTES = 64 * 1024;
const IV_BYTES = 12;
const AUTH_TAG_BYTES = 16;
const MAX_DAYS = 3650;

/** Returns true for UUID text in any case. */
export function isKeyId(value: unknown): value is string {
  return typeof value === 'string' && UUID.test(value);
}

/** Returns the id in lower case. */
export function checkUuid(field: string, value: unknown): string {
  if (!isKeyId(value))
    throw new InvalidArgumentError(field, 'must be a UUID, such as 0d2b9a4e-5c1f-4e7a-9b3d-6f8e2a1c4d5b');
  return value.toLowerCase();
}

/** The unnamed device, as engines and storages name it. */
export const UNNAMED = '';

/** Returns a contact's device id in lower case, or UNNAMED for an absent or empty one. */
export function checkDeviceId(field: string, value: unknown): string {
  if (value === undefined || value === UNNAMED) return UNNAMED;
  if (!isKeyId(value) || value === NIL_UUID) {
    throw new InvalidArgumentError(
      field,
      'must be a UUID other than the nil UUID, such as 0d2b9a4e-5c1f-4e7a-9b3d-6f8e2a1c4d5b; absent or empty for the unnamed device',
    );
  }
  return value.toLowerCase();
}

/** Returns the device ids in lower case, sorted, each once. */
export function checkDeviceIds(field: string, values: readonly string[]): string[] {
  if (!Array.isArray(values) || values.length > MAX_CONTACT_DEVICES) {
    throw new InvalidArgumentError(field, `must be an array of at most ${MAX_CONTACT_DEVICES} device ids`);
  }
  // A missing element is no device, although an absent device id names the unnamed one.
  return [...new Set(values.map((value) => checkDeviceId(field, value ?? null)))].sort();
}

/** Returns the device id as a property of a value that callers get: absent for the unnamed device. */
export function ofDevice(deviceId: string): { readonly deviceId?: string } {
  return deviceId === UNNAMED ? {} : { deviceId };
}

export function checkCategory(field: string, value: unknown): CoinCategoryName {
  if (!isCoinCategoryName(value))
    throw new InvalidArgumentError(field, `must be one of ${COIN_CATEGORY_NAMES.join(', ')}`);
  return value;
}

export function checkContactId(value: unknown): string {
  if (
    typeof value !== 'string' ||
    // Unpaired surrogates would all be stored as the same replacement character.
    !value.isWellFormed() ||
    value === '' ||
    [...value].length > MAX_CONTACT_ID_CHARACTERS
  ) {
    throw new InvalidArgumentError(
      'contactId',
      `must be well-formed text of 1 to ${MAX_CONTACT_ID_CHARACTERS} characters`,
    );
  }
  return value;
}

export function checkPriority(value: unknown): ContactPriority {
  if (!isContactPriority(value))
    throw new InvalidArgumentError('priority', `must be one of ${CONTACT_PRIORITIES.join(', ')}`);
  return value;
}

/** Returns a whole number of days from 0 to 3650. */
export function checkDays(field: string, value: unknown): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > MAX_DAYS) {
    throw new InvalidArgumentError(field, `must be a whole number from 0 to ${MAX_DAYS}`);
  }
  return value;
}

/** Refuses an age below the vault's lifetime unless the caller accepts the loss, and returns the days. */
export function checkPurgeAge(
  maxAgeDays: number = VAULT_LIFETIME_DAYS,
  options: { readonly evenIfOwed?: boolean } = {},
): number {
  const days = checkDays('maxAgeDays', maxAgeDays);
  if (days < VAULT_LIFETIME_DAYS && options?.evenIfOwed !== true) {
    throw new InvalidArgumentError(
      'maxAgeDays',
      `must be at least ${VAULT_LIFETIME_DAYS}, because messages to younger keys may still arrive; pass { evenIfOwed: true } to destroy them anyway`,
    );
  }
  return days;
}

/** Returns a copy, as a Buffer, which both database drivers take as it is. */
export function checkBytes(field: string, value: unknown, min: number, max: number): Buffer {
  if (!isUint8Array(value) || value.length < min || value.length > max) {
    throw new InvalidArgumentError(field, `must be ${min === max ? `exactly ${min}` : `${min} to ${max}`} bytes`);
  }
  const copy = Buffer.allocUnsafe(value.length);
  copy.set(value);
  return copy;
}

/** Returns milliseconds since 1970. */
export function checkDate(field: string, value: unknown): number {
  if (!isDate(value) || Number.isNaN(value.getTime())) {
    throw new InvalidArgumentError(field, 'must be a valid Date');
  }
  return value.getTime();
}

/** Returns milliseconds since 1970. */
function checkFuture(field: string, value: unknown, nowMs: number): number {
  if (!isDate(value) || !(value.getTime() > nowMs)) {
    throw new InvalidArgumentError(field, 'must be a Date in the future');
  }
  return value.getTime();
}

export function checkObject<T extends object>(field: string, value: T): T {
  if (typeof value !== 'object' || value === null) throw new InvalidArgumentError(field, 'must be an object');
  return value;
}

/** A checked NewVaultKey. Its bytes are the library's own. */
export interface CheckedVaultKey {
  /** UUID in lower case. */
  readonly keyId: string;
  readonly coinCategory: CoinCategoryName;
  readonly encryptedBlob: Buffer;
  readonly encryptionIv: Buffer;
  readonly authTag: Buffer;
  /** Milliseconds since 1970. */
  readonly expiresAtMs: number;
}

export function checkVaultKey(key: NewVaultKey, nowMs: number): CheckedVaultKey {
  checkObject('key', key);
  const latest = nowMs + VAULT_LIFETIME_DAYS * DAY_MS;
  const expiresAtMs = key.expiresAt === undefined ? latest : checkFuture('expiresAt', key.expiresAt, nowMs);
  if (expiresAtMs > latest + CLOCK_SKEW_MS) {
    throw new InvalidArgumentError('expiresAt', `must be at most ${VAULT_LIFETIME_DAYS} days and 5 minutes away`);
  }
  return {
    keyId: checkUuid('keyId', key.keyId),
    coinCategory: checkCategory('coinCategory', key.coinCategory),
    encryptedBlob: checkBytes('encryptedBlob', key.encryptedBlob, 1, MAX_BLOB_BYTES),
    encryptionIv: checkBytes('encryptionIv', key.encryptionIv, IV_BYTES, IV_BYTES),
    authTag: checkBytes('authTag', key.authTag, AUTH_TAG_BYTES, AUTH_TAG_BYTES),
    expiresAtMs,
  };
}

function checkPublicHalf(coin: { coinCategory: CoinCategoryName; publicKey: Uint8Array; signature: Uint8Array }) {
  const { publicKeySize, signatureSize } = specOf(checkCategory('coinCategory', coin.coinCategory));
  return {
    publicKey: checkBytes('publicKey', coin.publicKey, publicKeySize, publicKeySize),
    signature: checkBytes('signature', coin.signature, signatureSize, signatureSize),
  };
}

/** A checked InventoryCoin. Its bytes are the library's own. */
export interface CheckedInventoryCoin {
  readonly contactId: string;
  /** UUID in lower case; empty for the unnamed device. */
  readonly deviceId: string;
  /** UUID in lower case. */
  readonly keyId: string;
  readonly coinCategory: CoinCategoryName;
  readonly publicKey: Buffer;
  readonly signature: Buffer;
  /** Milliseconds since 1970. */
  readonly expiresAtMs: number;
}

function checkContactCoin(coin: InventoryCoin, checkExpiry: (value: Date) => number): CheckedInventoryCoin {
  checkObject('coin', coin);
  return {
    contactId: checkContactId(coin.contactId),
    deviceId: checkDeviceId('deviceId', coin.deviceId),
    keyId: checkUuid('keyId', coin.keyId),
    coinCategory: checkCategory('coinCategory', coin.coinCategory),
    ...checkPublicHalf(coin),
    expiresAtMs: checkExpiry(coin.expiresAt),
  };
}

/** Checks a coin that is to be cached, whose `expiresAt` must lie in the future. */
export function checkInventoryCoin(coin: InventoryCoin, nowMs: number): CheckedInventoryCoin {
  return checkContactCoin(coin, (expiresAt) => checkFuture('expiresAt', expiresAt, nowMs));
}

/** Checks a fetched coin, which may have expired on its way: the engine then reports that instead of storing it. */
export function checkFetchedCoin(coin: InventoryCoin): CheckedInventoryCoin {
  return checkContactCoin(coin, (expiresAt) => checkDate('expiresAt', expiresAt));
}

/** A checked MintedCoin. Its bytes are the library's own. */
export interface CheckedMintedCoin extends CheckedVaultKey {
  readonly publicKey: Buffer;
  readonly signature: Buffer;
  /** False if `expiresAtMs` is the default. */
  readonly isExpiryGiven: boolean;
}

export function checkMintedCoin(coin: MintedCoin, nowMs: number): CheckedMintedCoin {
  checkObject('coin', coin);
  const key = checkVaultKey(coin, nowMs);
  return { ...key, ...checkPublicHalf(coin), isExpiryGiven: coin.expiresAt !== undefined };
}

/** Returns the addresses with user ids in lower case. Refuses a contact given twice: it would be topped up twice. */
export function checkContacts(contacts: readonly ContactAddress[]): ContactAddress[] {
  if (!Array.isArray(contacts)) throw new InvalidArgumentError('contacts', 'must be an array');
  const checked = contacts.map((contact) => {
    checkObject('contacts', contact);
    return { contactId: checkContactId(contact.contactId), userId: checkUuid('userId', contact.userId) };
  });
  if (new Set(checked.map(({ contactId }) => contactId)).size < checked.length) {
    throw new InvalidArgumentError('contacts', 'must name every contact once');
  }
  return checked;
}

export function checkWish(wish: OnDemandWish): OnDemandWish {
  const [address] = checkContacts([wish]) as [ContactAddress];
  return {
    ...address,
    ...(wish.deviceIds === undefined ? {} : { deviceIds: checkDeviceIds('deviceIds', wish.deviceIds) }),
    coinCategory: checkCategory('coinCategory', wish.coinCategory),
    allowLowerCategories: wish.allowLowerCategories === true,
  };
}

/** Returns the owner with ids in lower case. */
export function checkOwner(owner: StorageOwner): StorageOwner {
  checkObject('owner', owner);
  const userId = checkUuid('owner.userId', owner.userId);
  return owner.deviceId === undefined ? { userId } : { userId, deviceId: checkUuid('owner.deviceId', owner.deviceId) };
}
