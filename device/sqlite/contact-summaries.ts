import type Database from 'better-sqlite3';
import { type ContactPriority, DEFAULT_PRIORITY } from '../contract/budget';
import { type CoinCategoryName, perCategory, specOf } from '../contract/coin-category';
import { type ContactSummary, type DeviceSummary, KEY_ID_BYTES } from '../contract/inventory';
import { ofDevice } from '../contract/validate';
import type { CoinCache } from './coin-cache';
import type { Connection } from './connection';

interface ContactRow {
  readonly contact_id: string;
  readonly priority: ContactPriority | null;
  readonly last_used_at: number | null;
}

interface CountRow {
  readonly contact_id: string;
  readonly device_id: string;
  readonly coin_category: CoinCategoryName;
  readonly coins: number;
}

/** Reads what the inventory holds, without a key. Must be called inside a transaction. */
export class ContactSummaries {
  readonly #cache: CoinCache;
  readonly #contact: Database.Statement<[string], ContactRow>;
  readonly #contacts: Database.Statement<[], ContactRow>;
  readonly #devices: Database.Statement<[], Pick<CountRow, 'contact_id' | 'device_id'>>;
  readonly #counts: Database.Statement<[number], CountRow>;
  readonly #stored: Database.Statement<[], Pick<CountRow, 'coin_category' | 'coins'>>;

  constructor(connection: Connection, cache: CoinCache) {
    this.#cache = cache;
    this.#contact = connection.prepare('SELECT * FROM contact WHERE contact_id = ?');
    this.#contacts = connection.prepare('SELECT * FROM contact ORDER BY contact_id');
    this.#devices = connection.prepare(
      'SELECT contact_id, device_id FROM contact_device ORDER BY contact_id, device_id',
    );
    this.#counts = connection.prepare(
      `SELECT contact_id, device_id, coin_category, count(*) AS coins FROM inventory_coin WHERE expires_at > ?
       GROUP BY contact_id, device_id, coin_category`,
    );
    this.#stored = connection.prepare(
      'SELECT coin_category, count(*) AS coins FROM inventory_coin GROUP BY coin_category',
    );
  }

  of(contactId: string, nowMs: number): ContactSummary {
    const unknown: ContactRow = { contact_id: contactId, priority: null, last_used_at: null };
    const devices = this.#cache.devicesOf(contactId).map((deviceId) => ({
      ...ofDevice(deviceId),
      counts: perCategory((category) => this.#cache.held(contactId, deviceId, category, nowMs)),
    }));
    return toSummary(this.#contact.get(contactId) ?? unknown, devices);
  }

  ofAll(nowMs: number): ContactSummary[] {
    const devices = new Map<string, Map<string, DeviceSummary>>();
    for (const { contact_id, device_id } of this.#devices.iterate()) {
      const ofContact = devices.get(contact_id) ?? new Map<string, DeviceSummary>();
      devices.set(contact_id, ofContact.set(device_id, { ...ofDevice(device_id), counts: perCategory(() => 0) }));
    }
    for (const { contact_id, device_id, coin_category, coins } of this.#counts.iterate(nowMs)) {
      const device = devices.get(contact_id)?.get(device_id);
      if (device !== undefined) device.counts[coin_category] = coins;
    }
    return this.#contacts.all().map((row) => toSummary(row, [...(devices.get(row.contact_id)?.values() ?? [])]));
  }

  /** Returns the bytes of all stored coins. Sizes are exact per category, so that counting in an index is enough. */
  storedBytes(): number {
    return this.#stored.all().reduce((sum, { coin_category, coins }) => {
      const { publicKeySize, signatureSize } = specOf(coin_category);
      return sum + coins * (publicKeySize + signatureSize + KEY_ID_BYTES);
    }, 0);
  }
}

function toSummary(row: ContactRow, devices: readonly DeviceSummary[]): ContactSummary {
  return {
    contactId: row.contact_id,
    priority: row.priority ?? DEFAULT_PRIORITY,
    counts: perCategory((category) => devices.reduce((sum, { counts }) => sum + counts[category], 0)),
    devices,
    lastUsedAt: row.last_used_at === null ? null : new Date(row.last_used_at),
  };
}
