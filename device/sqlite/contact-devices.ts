import type Database from 'better-sqlite3';
import type { CoinCategoryName } from '../contract/coin-category';
import type { CoinName } from '../contract/inventory';
import type { CoinCache } from './coin-cache';
import type { Connection } from './connection';

interface RemovedCoin {
  readonly key_id: string;
  readonly coin_category: CoinCategoryName;
  readonly expires_at: number;
}

/** Changes the known devices of contacts. Must be called inside a transaction. */
export class ContactDevices {
  readonly #cache: CoinCache;
  readonly #add: Database.Statement<[string, string]>;
  readonly #addContact: Database.Statement<[string]>;
  readonly #forgetContact: Database.Statement<[string]>;
  readonly #remove: Database.Statement<[string, string]>;
  readonly #deleteCoins: Database.Statement<[string, string], RemovedCoin>;
  readonly #closeTopUps: Database.Statement<[string, string]>;

  constructor(connection: Connection, cache: CoinCache) {
    this.#cache = cache;
    this.#add = connection.prepare(
      'INSERT INTO contact_device (contact_id, device_id) VALUES (?, ?) ON CONFLICT DO NOTHING',
    );
    this.#addContact = connection.prepare('INSERT INTO contact (contact_id) VALUES (?) ON CONFLICT DO NOTHING');
    this.#forgetContact = connection.prepare(
      'DELETE FROM contact WHERE contact_id = ? AND priority IS NULL AND last_used_at IS NULL',
    );
    this.#remove = connection.prepare('DELETE FROM contact_device WHERE contact_id = ? AND device_id = ?');
    this.#deleteCoins = connection.prepare(
      `DELETE FROM inventory_coin WHERE contact_id = ? AND device_id = ?
       RETURNING key_id, coin_category, expires_at`,
    );
    this.#closeTopUps = connection.prepare(
      `DELETE FROM open_request WHERE contact_id = ? AND purpose = 'TOP_UP' AND device_id = ?`,
    );
  }

  /**
   * Sets the known devices, and forgets the coins and the pending top-ups of all others. A contact of which only devices
   * were known, and now none, is not known any more. Returns the coins.
   */
  learn(contactId: string, deviceIds: readonly string[]): CoinName[] {
    const known = this.#cache.devicesOf(contactId);
    const gone = known.filter((deviceId) => !deviceIds.includes(deviceId));
    const removed = gone.flatMap((deviceId) => this.#forget(contactId, deviceId));
    if (deviceIds.length > 0) this.#addContact.run(contactId);
    else this.#forgetContact.run(contactId);
    for (const deviceId of deviceIds) if (!known.includes(deviceId)) this.#add.run(contactId, deviceId);
    return removed;
  }

  #forget(contactId: string, deviceId: string): CoinName[] {
    this.#closeTopUps.run(contactId, deviceId);
    this.#remove.run(contactId, deviceId);
    return this.#deleteCoins.all(contactId, deviceId).map(({ key_id, coin_category, expires_at }) => {
      this.#cache.rememberUsed(contactId, key_id, expires_at);
      return { keyId: key_id, coinCategory: coin_category };
    });
  }
}
