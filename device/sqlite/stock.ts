import type Database from 'better-sqlite3';
import { type BudgetTable, type ContactPriority, DEFAULT_PRIORITY, roomLeft } from '../contract/budget';
import type { CoinCategoryName } from '../contract/coin-category';
import type { CheckedInventoryCoin } from '../contract/validate';
import type { Connection } from './connection';

/**
 * The rules of a contact's coins that the inventory and the top-ups share: what fits, what was used, what goes in.
 * Call everything inside a write (or a read of several statements).
 */
export class Stock {
  readonly #budgets: BudgetTable;
  readonly #priority: Database.Statement<[string], ContactPriority | null>;
  readonly #held: Database.Statement<[string, CoinCategoryName, number], number>;
  readonly #reserved: Database.Statement<[string, CoinCategoryName], number>;
  readonly #known: Database.Statement<[string, string, number, string, string, number], number>;
  readonly #deleteExpired: Database.Statement<[string, number]>;
  readonly #insert: Database.Statement<[string, string, string, number, Uint8Array, Uint8Array]>;
  readonly #touch: Database.Statement<[string, number]>;
  readonly #remember: Database.Statement<[string, string, number]>;
  readonly #forget: Database.Statement<[number]>;

  constructor(connection: Connection, budgets: BudgetTable) {
    this.#budgets = budgets;
    this.#priority = connection
      .prepare<[string], ContactPriority | null>('SELECT priority FROM contact WHERE contact_id = ?')
      .pluck();
    this.#held = connection
      .prepare<[string, CoinCategoryName, number], number>(
        'SELECT count(*) FROM inventory_coin WHERE contact_id = ? AND coin_category = ? AND expires_at > ?',
      )
      .pluck();
    this.#reserved = connection
      .prepare<[string, CoinCategoryName], number>(
        `SELECT coalesce(sum(count), 0) FROM open_request
         WHERE contact_id = ? AND purpose = 'TOP_UP' AND coin_category = ?`,
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
      `INSERT INTO inventory_coin (contact_id, key_id, coin_category, expires_at, public_key, signature)
       VALUES (?, ?, ?, ?, ?, ?)`,
    );
    this.#touch = connection.prepare(
      `INSERT INTO contact (contact_id, last_used_at) VALUES (?, ?)
       ON CONFLICT (contact_id) DO UPDATE SET last_used_at = excluded.last_used_at`,
    );
    // The end of an id that is remembered twice is the later one: whoever lies about it must not shorten the memory.
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

  /** Usable coins; expired ones fill no budget. */
  held(contactId: string, category: CoinCategoryName, nowMs: number): number {
    return this.#held.get(contactId, category, nowMs) ?? 0;
  }

  /** What the budget leaves beside the usable coins and the open reservations. */
  room(contactId: string, category: CoinCategoryName, nowMs: number): number {
    const reserved = this.#reserved.get(contactId, category) ?? 0;
    return roomLeft(this.budgetOf(contactId, category), this.held(contactId, category, nowMs), reserved);
  }

  /** How many coins the budget lacks, reserved or not. */
  missing(contactId: string, category: CoinCategoryName, nowMs: number): number {
    return roomLeft(this.budgetOf(contactId, category), this.held(contactId, category, nowMs), 0);
  }

  /** Whether the contact's coin of this id is usable now, was used before, or neither. */
  lookUp(contactId: string, keyId: string, nowMs: number): 'HELD' | 'USED' | 'NEW' {
    const found = this.#known.get(contactId, keyId, nowMs, contactId, keyId, nowMs);
    return found === undefined ? 'NEW' : found === 1 ? 'HELD' : 'USED';
  }

  /** Puts a NEW coin on disk. Expired coins of the contact make way, also one of the same id. */
  put(coin: CheckedInventoryCoin, nowMs: number): void {
    this.#deleteExpired.run(coin.contactId, nowMs);
    this.#insert.run(coin.contactId, coin.keyId, coin.coinCategory, coin.expiresAtMs, coin.publicKey, coin.signature);
    this.touch(coin.contactId, nowMs);
  }

  /** The contact's coins were used just now. */
  touch(contactId: string, nowMs: number): void {
    this.#touch.run(contactId, nowMs);
  }

  /** The id is never stored again until the coin's end. */
  rememberUsed(contactId: string, keyId: string, expiresAtMs: number): void {
    this.#remember.run(contactId, keyId, expiresAtMs);
  }

  /** Drops the memory of ids whose coins have ended. */
  forgetEnded(nowMs: number): void {
    this.#forget.run(nowMs);
  }
}
