import { randomBytes, randomUUID } from 'node:crypto';
import type { DeviceStorage, InventoryCoin, NewVaultKey } from '../device';
import { COIN_CATEGORIES, type CoinCategoryName } from '../gen/aqm/coin/v1/coin_categories';

const DAY_MS = 86_400_000;
/** An encrypted ML-KEM-768 private half: 2,400 bytes (FIPS 203). */
const PRIVATE_HALF_BYTES = 2400;
/** The categories of the coins that a BESTIE may hold, in the order of storing. */
const BESTIE: readonly CoinCategoryName[] = [
  ...Array<CoinCategoryName>(5).fill('GOLD'),
  ...Array<CoinCategoryName>(4).fill('SILVER'),
  'BRONZE',
];
export const COINS_PER_CONTACT = BESTIE.length;

/** Returns a private half with random contents. */
export function newKey(): NewVaultKey {
  return {
    keyId: randomUUID(),
    coinCategory: 'GOLD',
    encryptedBlob: randomBytes(PRIVATE_HALF_BYTES),
    encryptionIv: randomBytes(12),
    authTag: randomBytes(16),
  };
}

/** Returns a coin with random contents that is valid for 20 days. */
export function newCoin(contactId: string, coinCategory: CoinCategoryName): InventoryCoin {
  const spec = COIN_CATEGORIES.find(({ name }) => name === coinCategory) ?? COIN_CATEGORIES[0];
  return {
    contactId,
    keyId: randomUUID(),
    coinCategory,
    publicKey: randomBytes(spec.publicKeySize),
    signature: randomBytes(spec.signatureSize),
    expiresAt: new Date(Date.now() + 20 * DAY_MS),
  };
}

/** The ids of what a storage was filled with. */
export interface Contents {
  readonly keyIds: string[];
  readonly contacts: string[];
}

/**
 * Adds to a storage until it has `coins` private halves, and `coins` coins of contacts that are besties with ten
 * coins each.
 */
export async function fill(storage: DeviceStorage, coins: number, have: Contents): Promise<Contents> {
  const keyIds = [...have.keyIds];
  const contacts = [...have.contacts];
  while (keyIds.length < coins) {
    const key = newKey();
    await storage.vault.storeKey(key);
    keyIds.push(key.keyId);
  }
  while (contacts.length * COINS_PER_CONTACT < coins) {
    const contactId = `contact-${contacts.length}`;
    await addBestie(storage, contactId);
    contacts.push(contactId);
  }
  return { keyIds, contacts };
}

/**
 * Stores a new private half, and removes a random other one from the list of ids.
 * @returns the id of the other one, which the caller must fetch and burn: this happens to a key once in its life.
 */
export async function renewKey(storage: DeviceStorage, { keyIds }: Contents): Promise<string> {
  const key = newKey();
  await storage.vault.storeKey(key);
  const index = Math.floor(Math.random() * keyIds.length);
  const keyId = keyIds[index] as string;
  keyIds[index] = key.keyId;
  return keyId;
}

/** Adds a contact and fills its budget. */
export async function addBestie(storage: DeviceStorage, contactId: string): Promise<void> {
  await storage.inventory.setPriority(contactId, 'BESTIE');
  for (const category of BESTIE) await storage.inventory.storeKey(newCoin(contactId, category));
}
