import type Database from 'better-sqlite3';
import { type BudgetTable, type ContactPriority, DEFAULT_PRIORITY, roomLeft } from '../contract/budget';
import type { CoinCategoryName } from '../contract/coin-category';
import { RESERVATION_MS } from '../contract/pending-requests';
import type { CheckedInventoryCoin } from '../contract/validate';
import type { Connection } from './connection';

/**
 * The cached coins of contacts, with the rules that the inventory and the top-ups share: how many coins fit, which ids
 * were used, and what storing a coin removes. Must be called inside a transaction.
 */
export class CoinCache {
  readonly #budgets: BudgetTable;
  readonly #priority: Database.Statement<[string], ContactPriority | null>;
  readonly #devices: Database.Statement<[string], string>;
  readonly #isKnown: Database.Statement<[string, string], number>;
  readonly #held: Database.Statement<[string, string, CoinCategoryName, number], number>;
  readonly #reserved: Database.Statement<[string, string, CoinCategoryName, number, number], number>;
  readonly #known: Database.Statement<[string, string, number, string, string, number], number>;
  readonly #deleteExpired: Database.Statement<[string, number]>;
  readonly #insert: Database.Statement<[string, string, string, string, number, Uint8Array, Uint8Array]>;
  readonly #touch: Database.Statement<[string, number]>;
  readonly #remember: Database.Statement<[string, string, number]>;
  readonly #forget: Database.Statement<[number]>;

  constructor(connection: Connection, budgets: BudgetTable) {
    this.#budgets = budgets;
    this.#priority = connection
      .prepare<[string], ContactPriority | null>('SELECT priority FROM contact WHERE contact_id = ?')
      .pluck();
    this.#devices = connection
      .prepare<[string], string>('SELECT device_id FROM contact_device WHERE contact_id = ? ORDER BY device_id')
      .pluck();
    this.#isKnown = connection
      .prepare<[string, string], number>('SELECT 1 FROM contact_device WHERE contact_id = ? AND device_id = ?')
      .pluck();
    this.#held = connection
      .prepare<[string, string, CoinCategoryName, number], number>(
        `SELECT count(*) FROM inventory_coin
         WHERE contact_id = ? AND device_id = ? AND coin_category = ? AND expires_at > ?`,
      )
      .pluck();
    this.#reserved = connection
      .prepare<[string, string, CoinCategoryName, number, number], number>(
        `SELECT coalesce(sum(count), 0) FROM open_request
         WHERE contact_id = ? AND purpose = 'TOP_UP' AND device_id = ? AND coin_category = ? AND abs(asked_at - ?) < ?`,
      )
      .pluck();
    this.#known = connection
      .prepare<[string, string, number, string, string, number], number>(
        `SELECT 1 FROM inventory_coin WHERE contact_id = ? AND key_id = ? AND expires_at > ?
         UNION ALL
         SELECT 2 FROM used_coin WHERE contact_id = ? AND key_id = ? AND expires_at > ?`,
      )
      .pluck();
    this.#deleteExpired = connection.prepare('DELETE FROM inventory_coin WHERE contact_id = ? AND expires_at <= ?');
    this.#insert = connection.prepare(
      `INSERT INTO inventory_coin (contact_id, device_id, key_id, coin_category, expires_at, public_key, signature)
       VALUES (?, ?, ?, ?, ?, ?, ?)`,
    );
    this.#touch = connection.prepare(
      `INSERT INTO contact (contact_id, last_used_at) VALUES (?, ?)
       ON CONFLICT (contact_id) DO UPDATE SET last_used_at = excluded.last_used_at`,
    );
    // The later expiry counts for an id that is remembered twice: a server that lies about it must not shorten the
    // memory.
    this.#remember = connection.prepare(
      `INSERT INTO used_coin (contact_id, key_id, expires_at) VALUES (?, ?, ?)
       ON CONFLICT (contact_id, key_id) DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)`,
    );
    this.#forget = connection.prepare('DELETE FROM used_coin WHERE expires_at <= ?');
  }

  priorityOf(contactId: string): ContactPriority {
    return this.#priority.get(contactId) ?? DEFAULT_PRIORITY;
  }

  budgetOf(contactId: string, category: CoinCategoryName): number {
    return this.#budgets[this.priorityOf(contactId)][category];
  }

  /** Returns the known devices, the unnamed one first. */
  devicesOf(contactId: string): string[] {
    return this.#devices.all(contactId);
  }

  isKnown(contactId: string, deviceId: string): boolean {
    return this.#isKnown.get(contactId, deviceId) !== undefined;
  }

  /** Counts the usable coins of a device. Expired ones use up no budget. */
  held(contactId: string, deviceId: string, category: CoinCategoryName, nowMs: number): number {
    return this.#held.get(contactId, deviceId, category, nowMs) ?? 0;
  }

  /** Returns the part of a device's budget that neither usable coins nor reservations take. */
  room(contactId: string, deviceId: string, category: CoinCategoryName, nowMs: number): number {
    const reserved = this.#reserved.get(contactId, deviceId, category, nowMs, RESERVATION_MS) ?? 0;
    return roomLeft(this.budgetOf(contactId, category), this.held(contactId, deviceId, category, nowMs), reserved);
  }

  /** Returns how many coins a device's budget lacks. Reservations are not subtracted. */
  missing(contactId: string, deviceId: string, category: CoinCategoryName, nowMs: number): number {
    return roomLeft(this.budgetOf(contactId, category), this.held(contactId, deviceId, category, nowMs), 0);
  }

  /** Returns HELD if the contact's coin with this id is usable now, USED if it was used before, otherwise NEW. */
  lookUp(contactId: string, keyId: string, nowMs: number, trustedMs: number): 'HELD' | 'USED' | 'NEW' {
    const found = this.#known.get(contactId, keyId, nowMs, contactId, keyId, trustedMs);
    return found === undefined ? 'NEW' : found === 1 ? 'HELD' : 'USED';
  }

  /**
   * Stores a NEW coin, which makes its device known. Deletes the contact's expired coins, and replaces one that has the
   * same id.
   */
  put(coin: CheckedInventoryCoin, nowMs: number, forgetMs: number): void {
    const { contactId, deviceId, keyId, coinCategory, expiresAtMs, publicKey, signature } = coin;
    this.#deleteExpired.run(contactId, forgetMs);
    this.#insert.run(contactId, deviceId, keyId, coinCategory, expiresAtMs, publicKey, signature);
    this.touch(contactId, nowMs);
  }

  /** Records that the contact's coins were used just now. */
  touch(contactId: string, nowMs: number): void {
    this.#touch.run(contactId, nowMs);
  }

  /** Remembers the id, so that it is never stored again before the coin's expiry. */
  rememberUsed(contactId: string, keyId: string, expiresAtMs: number): void {
    this.#remember.run(contactId, keyId, expiresAtMs);
  }

  /** Forgets the ids of coins that have expired. */
  forgetExpired(forgetMs: number): void {
    this.#forget.run(forgetMs);
  }
}
