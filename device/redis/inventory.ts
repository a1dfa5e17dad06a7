import { type ContactPriority, DEFAULT_PRIORITY } from '../contract/budget';
import {
  COIN_CATEGORY_NAMES,
  type CoinCategoryName,
  perCategory,
  specOf,
  withLowerCategories,
} from '../contract/coin-category';
import {
  type CoinName,
  type ContactSummary,
  INACTIVE_DAYS,
  type InventoryCoin,
  type SmartInventory,
} from '../contract/inventory';
import {
  checkCategory,
  checkContactId,
  checkDays,
  checkInventoryCoin,
  checkPriority,
  DAY_MS,
} from '../contract/validate';
import type { Connection } from './connection';
import type { ContactNames } from './contact-names';
import type { Keys } from './keys';
import { bytesIn, categoryIn, dateIn, listIn, numberIn, priorityIn, type Reply, rowsIn, textIn } from './reply';
import type { Stock } from './stock';
import { ttlMs } from './ttl';

/** UUID text. */
const KEY_ID_BYTES = 36;

export class RedisInventory implements SmartInventory {
  readonly #connection: Connection;
  readonly #keys: Keys;
  readonly #names: ContactNames;
  readonly #stock: Stock;

  constructor(connection: Connection, keys: Keys, names: ContactNames, stock: Stock) {
    this.#connection = connection;
    this.#keys = keys;
    this.#names = names;
    this.#stock = stock;
  }

  async storeKey(coin: InventoryCoin): Promise<boolean> {
    const { contactId, keyId, coinCategory, expiresAtMs, ...half } = checkInventoryCoin(coin, this.#connection.now());
    // Copied: the caller may change its own while the call waits.
    const bytes = [Buffer.from(half.publicKey), Buffer.from(half.signature)];
    const [tag, name] = this.#stock.person(contactId);
    const stored = await this.#stock.run('coin-store', [tag], (nowMs) => {
      return [tag, name, keyId, coinCategory, expiresAtMs, ttlMs(expiresAtMs, nowMs), ...bytes];
    });
    return stored === 1;
  }

  async selectCoin(contactId: string, desired: CoinCategoryName): Promise<InventoryCoin | null> {
    checkContactId(contactId);
    const categories = withLowerCategories(checkCategory('desired', desired));
    const tag = this.#stock.tag(contactId);
    const reply = await this.#stock.run('coin-select', [tag], () => [tag, ...categories]);
    if (reply === null) return null;
    const [category, keyId, expiresAt, publicKey, signature] = listIn(reply);
    return {
      contactId,
      keyId: textIn(keyId),
      coinCategory: categoryIn(category),
      publicKey: bytesIn(publicKey),
      signature: bytesIn(signature),
      expiresAt: dateIn(expiresAt),
    };
  }

  async getPriority(contactId: string): Promise<ContactPriority> {
    const tag = this.#stock.tag(checkContactId(contactId));
    const priority = await this.#connection.call('hget', this.#keys.contact(tag), 'priority');
    if (priority === null) await this.#connection.refuseFenced();
    return toPriority(priority);
  }

  async setPriority(contactId: string, priority: ContactPriority): Promise<{ evicted: CoinName[] }> {
    checkContactId(contactId);
    checkPriority(priority);
    const [tag, name] = this.#stock.person(contactId);
    const reply = await this.#stock.run('priority-set', [tag], () => [tag, name, priority]);
    const evicted = rowsIn(reply, 2).map(([keyId, category]) => ({
      keyId: textIn(keyId),
      coinCategory: categoryIn(category),
    }));
    return { evicted };
  }

  async getSummary(contactId?: string): Promise<ContactSummary[]> {
    const tags = contactId === undefined ? [] : [this.#stock.tag(checkContactId(contactId))];
    const reply = await this.#stock.runOverAll('contacts-sum-up', () => tags);
    const summaries = rowsIn(reply, 4 + COIN_CATEGORY_NAMES.length).map(([tag, name, ...facts]) =>
      // A contact that was asked for need not be known to the server.
      toSummary(contactId ?? this.#nameOf(tag, name), facts),
    );
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
    // Sizes are exact per category, so that counting answers without touching a key.
    const counts = listIn(await this.#stock.runOverAll('coins-count', () => []));
    return COIN_CATEGORY_NAMES.reduce((sum, category, index) => {
      const { publicKeySize, signatureSize } = specOf(category);
      return sum + numberIn(counts[index]) * (publicKeySize + signatureSize + KEY_ID_BYTES);
    }, 0);
  }

  async garbageCollect(inactiveDays: number = INACTIVE_DAYS): Promise<number> {
    const days = checkDays('inactiveDays', inactiveDays);
    return numberIn(
      await this.#stock.runOverAll('contacts-collect', (nowMs) => [nowMs - days * DAY_MS, ttlMs(nowMs, nowMs)]),
    );
  }

  #nameOf(tag: Reply | undefined, name: Reply | undefined): string {
    return this.#names.unseal(textIn(tag), bytesIn(name));
  }
}

function toPriority(reply: Reply | undefined): ContactPriority {
  return reply === null ? DEFAULT_PRIORITY : priorityIn(reply);
}

function toSummary(contactId: string, [priority, lastUsedAt, ...counts]: readonly Reply[]): ContactSummary {
  return {
    contactId,
    priority: toPriority(priority),
    counts: perCategory((category) => numberIn(counts[COIN_CATEGORY_NAMES.indexOf(category)])),
    lastUsedAt: lastUsedAt === null ? null : dateIn(lastUsedAt),
  };
}

/** Ascending as SQLite sorts text: by its bytes in UTF-8. */
function inOrder<Named extends { readonly contactId: string }>(named: readonly Named[]): Named[] {
  return named
    .map((value) => ({ value, bytes: Buffer.from(value.contactId, 'utf8') }))
    .sort((a, b) => Buffer.compare(a.bytes, b.bytes))
    .map(({ value }) => value);
}
