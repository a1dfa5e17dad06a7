import { InvalidArgumentError } from '../errors';
import { CONTACT_PRIORITIES, type ContactPriority, isContactPriority } from './budget';
import { COIN_CATEGORY_NAMES, type CoinCategoryName, isCoinCategoryName, specOf } from './coin-category';
import type { InventoryCoin } from './inventory';
import type { MintedCoin } from './outbox';
import type { ContactAddress } from './pending-requests';
import { CLOCK_SKEW_MS, type NewVaultKey, VAULT_LIFETIME_DAYS } from './vault';

/** What both interfaces accept, whatever the backend. Every function throws InvalidArgumentError or returns the value. */

export const DAY_MS = 24 * 60 * 60_000;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const MAX_CONTACT_ID_CHARACTERS = 128;
const MAX_BLOB_BYTES = 64 * 1024;
const IV_BYTES = 12;
const AUTH_TAG_BYTES = 16;
const MAX_DAYS = 3650;

export function isKeyId(value: unknown): value is string {
  return typeof value === 'string' && UUID.test(value);
}

/** @returns the id in lower case. */
export function checkUuid(field: string, value: unknown): string {
  if (!isKeyId(value))
    throw new InvalidArgumentError(field, 'must be a UUID, such as 0d2b9a4e-5c1f-4e7a-9b3d-6f8e2a1c4d5b');
  return value.toLowerCase();
}

export function checkCategory(field: string, value: unknown): CoinCategoryName {
  if (!isCoinCategoryName(value))
    throw new InvalidArgumentError(field, `must be one of ${COIN_CATEGORY_NAMES.join(', ')}`);
  return value;
}

export function checkContactId(value: unknown): string {
  if (
    typeof value !== 'string' ||
    // Unpaired surrogates would be stored as the same replacement character.
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

export function checkDays(field: string, value: unknown): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > MAX_DAYS) {
    throw new InvalidArgumentError(field, `must be a whole number from 0 to ${MAX_DAYS}`);
  }
  return value;
}

function checkBytes(field: string, value: unknown, min: number, max: number): Uint8Array {
  if (!(value instanceof Uint8Array) || value.length < min || value.length > max) {
    throw new InvalidArgumentError(field, `must be ${min === max ? `exactly ${min}` : `${min} to ${max}`} bytes`);
  }
  return value;
}

/** @returns milliseconds since 1970. */
function checkFuture(field: string, value: unknown, nowMs: number): number {
  if (!(value instanceof Date) || !(value.getTime() > nowMs)) {
    throw new InvalidArgumentError(field, 'must be a Date in the future');
  }
  return value.getTime();
}

function checkObject<T extends object>(field: string, value: T): T {
  if (typeof value !== 'object' || value === null) throw new InvalidArgumentError(field, 'must be an object');
  return value;
}

/** A new vault key, checked, with its end in milliseconds since 1970. */
export interface CheckedVaultKey extends Omit<Required<NewVaultKey>, 'expiresAt'> {
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

/** A coin for the inventory, checked, with its end in milliseconds since 1970. */
export interface CheckedInventoryCoin extends Omit<InventoryCoin, 'expiresAt'> {
  readonly expiresAtMs: number;
}

export function checkInventoryCoin(coin: InventoryCoin, nowMs: number): CheckedInventoryCoin {
  checkObject('coin', coin);
  return {
    contactId: checkContactId(coin.contactId),
    keyId: checkUuid('keyId', coin.keyId),
    coinCategory: checkCategory('coinCategory', coin.coinCategory),
    ...checkPublicHalf(coin),
    expiresAtMs: checkFuture('expiresAt', coin.expiresAt, nowMs),
  };
}

export interface CheckedMintedCoin extends CheckedVaultKey {
  readonly publicKey: Uint8Array;
  readonly signature: Uint8Array;
}

export function checkMintedCoin(coin: MintedCoin, nowMs: number): CheckedMintedCoin {
  checkObject('coin', coin);
  const { keyId, coinCategory, encryptedBlob, encryptionIv, authTag } = coin;
  const key = checkVaultKey({ keyId, coinCategory, encryptedBlob, encryptionIv, authTag }, nowMs);
  return { ...key, ...checkPublicHalf(coin) };
}

/** @returns the addresses with user ids in lower case. A contact given twice is refused: it would be topped up twice. */
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
