import { type ContactPriority, DEFAULT_PRIORITY } from '../contract/budget';
import { COIN_CATEGORY_NAMES, type CoinCategoryName, perCategory, specOf } from '../contract/coin-category';
import {
  type CoinName,
  type ContactSummary,
  type DeviceSelection,
  type InventoryCoin,
  KEY_ID_BYTES,
} from '../contract/inventory';
import type { InventoryEngine } from '../contract/storage-engine';
import { type CheckedInventoryCoin, DAY_MS, ofDevice } from '../contract/validate';
import { type CoinCache, inOrderOfDevices } from './coin-cache';
import type { Connection } from './connection';
import type { ContactNames } from './contact-names';
import type { Keys } from './keys';
import { bytesIn, categoryIn, dateIn, listIn, numberIn, priorityIn, type Reply, rowsIn, textIn } from './reply';
import { scan } from './scan';

/** The inventory in Redis. Every call is one script or one command. */
export class RedisInventory implements InventoryEngine {
  readonly #connection: Connection;
  readonly #keys: Keys;
  readonly #names: ContactNames;
  readonly #cache: CoinCache;

  constructor(connection: Connection, keys: Keys, names: ContactNames, cache: CoinCache) {
    this.#connection = connection;
    this.#keys = keys;
    this.#names = names;
    this.#cache = cache;
  }

  async storeKey(coin: CheckedInventoryCoin): Promise<boolean> {
    const { contactId, deviceId, keyId, coinCategory, expiresAtMs, publicKey, signature } = coin;
    const [tag, name] = this.#cache.tagAndName(contactId);
    const device = this.#cache.deviceTagAndName(deviceId);
    const args = [tag, name, keyId, coinCategory, expiresAtMs, publicKey, signature, ...device];
    const stored = await this.#cache.run('coin-store', [tag], () => args);
    return stored === 1;
  }

  async selectCoin(
    contactId: string,
    deviceId: string,
    categories: readonly CoinCategoryName[],
  ): Promise<InventoryCoin | null> {
    const tag = this.#cache.tag(contactId);
    const [device] = this.#cache.deviceTagAndName(deviceId);
    const reply = await this.#cache.run('coin-select', [tag], () => [tag, device, ...categories]);
    return reply === null ? null : toCoin(contactId, deviceId, listIn(reply));
  }

  async selectCoins(contactId: string, categories: readonly CoinCategoryName[]): Promise<DeviceSelection[]> {
    const tag = this.#cache.tag(contactId);
    const rows = rowsIn(await this.#cache.run('coins-select', [tag], () => [tag, ...categories]), 7);
    return this.#inOrderOfDevices(rows).map(({ deviceId, row }) => ({
      ...ofDevice(deviceId),
      coin: row[0] === null ? null : toCoin(contactId, deviceId, row),
    }));
  }

  async getPriority(contactId: string): Promise<ContactPriority> {
    const tag = this.#cache.tag(contactId);
    const priority = await this.#connection.call('hget', this.#keys.contact(tag), 'priority');
    if (priority === null) await this.#connection.refuseMoved();
    return toPriority(priority);
  }

  async setPriority(contactId: string, priority: ContactPriority): Promise<{ evicted: CoinName[] }> {
    const [tag, name] = this.#cache.tagAndName(contactId);
    const reply = await this.#cache.run('priority-set', [tag], () => [tag, name, priority]);
    const named = rowsIn(reply, 4).map(([keyId = null, category = null, tag = null, name = null]) => [
      tag,
      name,
      keyId,
      category,
    ]);
    const evicted = this.#inOrderOfDevices(named).map(({ row: [keyId, category] }) => ({
      keyId: textIn(keyId),
      coinCategory: categoryIn(category),
    }));
    return { evicted };
  }

  async getSummary(contactId?: string): Promise<ContactSummary[]> {
    const tags = contactId === undefined ? [] : [this.#cache.tag(contactId)];
    const reply = await this.#cache.runOverAll('contacts-sum-up', () => tags);
    const summaries = rowsIn(reply, 5).map(([tag, name, priority, lastUsedAt, devices]) => ({
      // The server need not know a contact that the caller named.
      contactId: contactId ?? this.#nameOf(tag, name),
      priority: toPriority(priority),
      ...this.#countsIn(devices),
      lastUsedAt: lastUsedAt === null ? null : dateIn(lastUsedAt),
    }));
    return inOrder(summaries);
  }

  async listContacts(): Promise<string[]> {
    const keys = [this.#keys.contacts, this.#keys.contact('')];
    const reply = await this.#connection.run('contacts-list', keys, () => []);
    return inOrder(rowsIn(reply, 2).map(([tag, name]) => ({ contactId: this.#nameOf(tag, name) }))).map(
      ({ contactId }) => contactId,
    );
  }

  async getTotalStorageBytes(): Promise<number> {
    // Sizes are exact per category, so that counting is enough and no key is read.
    const counts = listIn(await this.#cache.runOverAll('coins-count', () => []));
    return COIN_CATEGORY_NAMES.reduce((sum, category, index) => {
      const { publicKeySize, signatureSize } = specOf(category);
      return sum + numberIn(counts[index]) * (publicKeySize + signatureSize + KEY_ID_BYTES);
    }, 0);
  }

  async garbageCollect(inactiveDays: number): Promise<number> {
    const removed = await this.#cache.runOverAll('contacts-collect', (_, forgetMs) => [
      forgetMs - inactiveDays * DAY_MS,
    ]);
    return numberIn(removed);
  }

  async forgetContact(contactId: string): Promise<number> {
    return this.#clear(this.#cache.tag(contactId), ['FORGET']);
  }

  async dropCachedCoins(): Promise<number> {
    const tags = new Set(listIn(await this.#connection.call('zrange', this.#keys.contacts, 0, -1)).map(textIn));
    // A contact that is fetched from on demand need not be among them.
    const requests = this.#keys.requests('');
    for await (const keys of scan(this.#connection, this.#keys.patternOf(requests))) {
      for (const key of keys) tags.add(key.slice(requests.length));
    }
    // Otherwise a storage that was wiped by a move would look empty.
    await this.#connection.refuseMoved();
    let dropped = 0;
    for (const tag of tags) dropped += await this.#clear(tag);
    return dropped;
  }

  async #clear(tag: string, options: readonly string[] = []): Promise<number> {
    return numberIn(await this.#cache.run('contact-clear', [tag], () => [tag, ...options]));
  }

  /** Reads the counts of every device of a contact, and sums them up. */
  #countsIn(reply: Reply | undefined): Pick<ContactSummary, 'counts' | 'devices'> {
    const rows = rowsIn(reply, 2 + COIN_CATEGORY_NAMES.length);
    const devices = this.#inOrderOfDevices(rows).map(({ deviceId, row }) => ({
      ...ofDevice(deviceId),
      counts: perCategory((category) => numberIn(row[COIN_CATEGORY_NAMES.indexOf(category)])),
    }));
    return {
      counts: perCategory((category) => devices.reduce((sum, { counts }) => sum + counts[category], 0)),
      devices,
    };
  }

  /** Takes tag and stored name of a device from the beginning of every row, and sorts the rows by the device's id. */
  #inOrderOfDevices(
    rows: readonly (readonly Reply[])[],
  ): { readonly deviceId: string; readonly row: readonly Reply[] }[] {
    return inOrderOfDevices(rows.map(([tag, name, ...row]) => ({ deviceId: this.#cache.deviceIn(tag, name), row })));
  }

  #nameOf(tag: Reply | undefined, name: Reply | undefined): string {
    return this.#names.unseal(textIn(tag), bytesIn(name));
  }
}

function toPriority(reply: Reply | undefined): ContactPriority {
  return reply === null ? DEFAULT_PRIORITY : priorityIn(reply);
}

function toCoin(contactId: string, deviceId: string, fields: readonly Reply[]): InventoryCoin {
  const [category, keyId, expiresAt, publicKey, signature] = fields;
  return {
    contactId,
    ...ofDevice(deviceId),
    keyId: textIn(keyId),
    coinCategory: categoryIn(category),
    publicKey: bytesIn(publicKey),
    signature: bytesIn(signature),
    expiresAt: dateIn(expiresAt),
  };
}

/** Sorts in ascending order of the ids' bytes in UTF-8, which is how SQLite sorts text. */
function inOrder<Named extends { readonly contactId: string }>(named: readonly Named[]): Named[] {
  return named
    .map((value) => ({ value, bytes: Buffer.from(value.contactId, 'utf8') }))
    .sort((a, b) => Buffer.compare(a.bytes, b.bytes))
    .map(({ value }) => value);
}
