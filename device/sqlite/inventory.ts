import { setImmediate } from 'node:timers/promises';
import type Database from 'better-sqlite3';
import type { BudgetTable, ContactPriority } from '../contract/budget';
import { COIN_CATEGORY_NAMES, type CoinCategoryName } from '../contract/coin-category';
import type { CoinName, ContactSummary, DeviceSelection, InventoryCoin } from '../contract/inventory';
import type { InventoryEngine } from '../contract/storage-engine';
import { type CheckedInventoryCoin, DAY_MS, ofDevice } from '../contract/validate';
import { CoinCache } from './coin-cache';
import { type Connection, toBytes } from './connection';
import { ContactSummaries } from './contact-summaries';

interface CoinRow {
  readonly sequence: number;
  readonly contact_id: string;
  readonly device_id: string;
  readonly key_id: string;
  readonly coin_category: CoinCategoryName;
  readonly expires_at: number;
  readonly public_key: Uint8Array;
  readonly signature: Uint8Array;
}

type UsedCoin = Pick<CoinRow, 'contact_id' | 'key_id' | 'expires_at'>;

interface ReservationRow {
  readonly request_id: string;
  readonly count: number;
}

/** The maximum number of coins of each kind that garbageCollect and dropCachedCoins remove in one transaction. */
const DROP_BATCH = 100;

/** The inventory in SQLite. */
export class SqliteInventory implements InventoryEngine {
  readonly #connection: Connection;
  readonly #cache: CoinCache;
  readonly #summaries: ContactSummaries;
  readonly #next: Database.Statement<[string, string, CoinCategoryName, number], CoinRow>;
  readonly #newest: Database.Statement<[string, string, CoinCategoryName, number, number], CoinRow>;
  readonly #delete: Database.Statement<[number]>;
  readonly #setPriority: Database.Statement<[string, ContactPriority]>;
  readonly #contactIds: Database.Statement<[], string>;
  readonly #deleteInactive: Database.Statement<[number, number]>;
  readonly #deleteExpired: Database.Statement<[number, number]>;
  readonly #deleteContacts: Database.Statement<[number]>;
  readonly #deleteDevices: Database.Statement<[]>;
  readonly #reservations: Database.Statement<[string, string, CoinCategoryName], ReservationRow>;
  readonly #closeRequest: Database.Statement<[string]>;
  readonly #closeRequestsOf: Database.Statement<[string]>;
  readonly #closeAllRequests: Database.Statement<[]>;
  readonly #deleteCoinsOf: Database.Statement<[string], UsedCoin>;
  readonly #deleteSomeCoins: Database.Statement<[number], UsedCoin>;
  readonly #deleteContact: Database.Statement<[string]>;
  readonly #deleteDevicesOf: Database.Statement<[string]>;

  constructor(connection: Connection, budgets: BudgetTable) {
    this.#connection = connection;
    this.#cache = new CoinCache(connection, budgets);
    this.#summaries = new ContactSummaries(connection, this.#cache);
    this.#next = connection.prepare(
      `SELECT * FROM inventory_coin WHERE contact_id = ? AND device_id = ? AND coin_category = ? AND expires_at > ?
       ORDER BY expires_at, sequence LIMIT 1`,
    );
    this.#newest = connection.prepare(
      `SELECT * FROM inventory_coin WHERE contact_id = ? AND device_id = ? AND coin_category = ? AND expires_at > ?
       ORDER BY sequence DESC LIMIT ?`,
    );
    this.#delete = connection.prepare('DELETE FROM inventory_coin WHERE sequence = ?');
    this.#setPriority = connection.prepare(
      `INSERT INTO contact (contact_id, priority) VALUES (?, ?)
       ON CONFLICT (contact_id) DO UPDATE SET priority = excluded.priority`,
    );
    this.#contactIds = connection.prepare<[], string>('SELECT contact_id FROM contact ORDER BY contact_id').pluck();
    this.#deleteInactive = connection.prepare(
      `DELETE FROM inventory_coin WHERE sequence IN
         (SELECT sequence FROM inventory_coin INDEXED BY inventory_coin_selection
          WHERE contact_id IN (SELECT contact_id FROM contact WHERE last_used_at <= ?) LIMIT ?)`,
    );
    // Walks the covering index. There is no index by time alone.
    this.#deleteExpired = connection.prepare(
      `DELETE FROM inventory_coin WHERE sequence IN
         (SELECT sequence FROM inventory_coin INDEXED BY inventory_coin_selection WHERE expires_at <= ? LIMIT ?)`,
    );
    // A contact that was never used has known devices only.
    this.#deleteContacts = connection.prepare(
      'DELETE FROM contact WHERE priority IS NULL AND (last_used_at IS NULL OR last_used_at <= ?)',
    );
    this.#deleteDevices = connection.prepare(
      'DELETE FROM contact_device WHERE contact_id NOT IN (SELECT contact_id FROM contact)',
    );
    this.#reservations = connection.prepare(
      `SELECT request_id, count FROM open_request
       WHERE contact_id = ? AND purpose = 'TOP_UP' AND device_id = ? AND coin_category = ?
       ORDER BY asked_at DESC, request_id`,
    );
    this.#closeRequest = connection.prepare('DELETE FROM open_request WHERE request_id = ?');
    this.#closeRequestsOf = connection.prepare('DELETE FROM open_request WHERE contact_id = ?');
    this.#closeAllRequests = connection.prepare('DELETE FROM open_request');
    this.#deleteCoinsOf = connection.prepare(
      'DELETE FROM inventory_coin WHERE contact_id = ? RETURNING contact_id, key_id, expires_at',
    );
    this.#deleteSomeCoins = connection.prepare(
      `DELETE FROM inventory_coin WHERE sequence IN (SELECT sequence FROM inventory_coin LIMIT ?)
       RETURNING contact_id, key_id, expires_at`,
    );
    this.#deleteContact = connection.prepare('DELETE FROM contact WHERE contact_id = ?');
    this.#deleteDevicesOf = connection.prepare('DELETE FROM contact_device WHERE contact_id = ?');
  }

  storeKey(coin: CheckedInventoryCoin): Promise<boolean> {
    const { contactId, deviceId, keyId, coinCategory } = coin;
    return this.#connection.write(
      (nowMs, forgetMs, trustedMs) => {
        if (this.#cache.lookUp(contactId, keyId, nowMs, trustedMs) !== 'NEW') return false;
        if (this.#cache.room(contactId, deviceId, coinCategory, nowMs) === 0) return false;
        this.#cache.put(coin, nowMs, forgetMs);
        return true;
      },
      { adds: 1 },
    );
  }

  selectCoin(
    contactId: string,
    deviceId: string,
    categories: readonly CoinCategoryName[],
  ): Promise<InventoryCoin | null> {
    return this.#connection.write((nowMs) => this.#select(contactId, deviceId, categories, nowMs));
  }

  selectCoins(contactId: string, categories: readonly CoinCategoryName[]): Promise<DeviceSelection[]> {
    return this.#connection.write((nowMs) =>
      this.#cache.devicesOf(contactId).map((deviceId) => ({
        ...ofDevice(deviceId),
        coin: this.#select(contactId, deviceId, categories, nowMs),
      })),
    );
  }

  async getPriority(contactId: string): Promise<ContactPriority> {
    return this.#connection.read(() => this.#cache.priorityOf(contactId));
  }

  setPriority(contactId: string, priority: ContactPriority): Promise<{ evicted: CoinName[] }> {
    return this.#connection.write((nowMs) => {
      this.#setPriority.run(contactId, priority);
      const budgets = this.#cache
        .devicesOf(contactId)
        .flatMap((deviceId) => COIN_CATEGORY_NAMES.map((category) => [contactId, deviceId, category, nowMs] as const));
      const evicted = budgets.flatMap((budget) => this.#surplus(...budget));
      for (const row of evicted) this.#takeOut(row);
      for (const budget of budgets) this.#closeReservationsBeyondBudget(...budget);
      return { evicted: evicted.map((row) => ({ keyId: row.key_id, coinCategory: row.coin_category })) };
    });
  }

  async getSummary(contactId?: string): Promise<ContactSummary[]> {
    return this.#connection.readTogether((nowMs) =>
      contactId === undefined ? this.#summaries.ofAll(nowMs) : [this.#summaries.of(contactId, nowMs)],
    );
  }

  async listContacts(): Promise<string[]> {
    return this.#connection.read(() => this.#contactIds.all());
  }

  async getTotalStorageBytes(): Promise<number> {
    return this.#connection.read(() => this.#summaries.storedBytes());
  }

  async garbageCollect(inactiveDays: number): Promise<number> {
    for (let collected = 0; ; await setImmediate()) {
      const { inactive, expired } = await this.#connection.write((_, forgetMs) => {
        const inactiveSince = forgetMs - inactiveDays * DAY_MS;
        const inactive = this.#deleteInactive.run(inactiveSince, DROP_BATCH).changes;
        const expired = this.#deleteExpired.run(forgetMs, DROP_BATCH).changes;
        if (inactive < DROP_BATCH) {
          this.#deleteContacts.run(inactiveSince);
          this.#deleteDevices.run();
        }
        this.#cache.forgetExpired(forgetMs);
        return { inactive, expired };
      });
      collected += inactive;
      if (inactive < DROP_BATCH && expired < DROP_BATCH) return collected;
    }
  }

  async forgetContact(contactId: string): Promise<number> {
    return this.#connection.write(() => {
      this.#closeRequestsOf.run(contactId);
      this.#deleteContact.run(contactId);
      this.#deleteDevicesOf.run(contactId);
      return this.#rememberUsed(this.#deleteCoinsOf.all(contactId));
    });
  }

  async dropCachedCoins(): Promise<number> {
    for (let dropped = 0; ; await setImmediate()) {
      const batch = await this.#connection.write(() => {
        this.#closeAllRequests.run();
        return this.#rememberUsed(this.#deleteSomeCoins.all(DROP_BATCH));
      });
      dropped += batch;
      if (batch < DROP_BATCH) return dropped;
    }
  }

  #select(
    contactId: string,
    deviceId: string,
    categories: readonly CoinCategoryName[],
    nowMs: number,
  ): InventoryCoin | null {
    for (const category of categories) {
      const row = this.#next.get(contactId, deviceId, category, nowMs);
      if (row === undefined) continue;
      this.#takeOut(row);
      this.#cache.touch(contactId, nowMs);
      return toCoin(row);
    }
    return null;
  }

  #rememberUsed(coins: readonly UsedCoin[]): number {
    for (const { contact_id, key_id, expires_at } of coins) this.#cache.rememberUsed(contact_id, key_id, expires_at);
    return coins.length;
  }

  /**
   * Closes the pending top-ups that ask for more coins than the budget lacks. A repeat may not ask for fewer: the coin
   * service refuses a request_id with another count.
   */
  #closeReservationsBeyondBudget(contactId: string, deviceId: string, category: CoinCategoryName, nowMs: number): void {
    let left = this.#cache.missing(contactId, deviceId, category, nowMs);
    for (const { request_id, count } of this.#reservations.all(contactId, deviceId, category)) {
      if (count <= left) left -= count;
      else this.#closeRequest.run(request_id);
    }
  }

  /** Returns the usable coins beyond the budget, the most recently stored first. */
  #surplus(contactId: string, deviceId: string, category: CoinCategoryName, nowMs: number): CoinRow[] {
    const beyond = this.#cache.held(contactId, deviceId, category, nowMs) - this.#cache.budgetOf(contactId, category);
    return beyond > 0 ? this.#newest.all(contactId, deviceId, category, nowMs, beyond) : [];
  }

  #takeOut(row: CoinRow): void {
    this.#delete.run(row.sequence);
    this.#cache.rememberUsed(row.contact_id, row.key_id, row.expires_at);
  }
}

function toCoin(row: CoinRow): InventoryCoin {
  return {
    contactId: row.contact_id,
    ...ofDevice(row.device_id),
    keyId: row.key_id,
    coinCategory: row.coin_category,
    publicKey: toBytes(row.public_key),
    signature: toBytes(row.signature),
    expiresAt: new Date(row.expires_at),
  };
}
