import type Database from 'better-sqlite3';
import type { BoundOwner, StorageOwner } from '../contract/owner';
import type { OwnerEngine } from '../contract/storage-engine';
import type { Connection } from './connection';

/** The owner in SQLite: up to three rows of device_record. */
export class SqliteOwner implements OwnerEngine {
  readonly #connection: Connection;
  readonly #select: Database.Statement<[string], string>;
  readonly #insert: Database.Statement<[string, string]>;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#select = connection.prepare<[string], string>('SELECT value FROM device_record WHERE name = ?').pluck();
    this.#insert = connection.prepare('INSERT OR IGNORE INTO device_record (name, value) VALUES (?, ?)');
  }

  async read(): Promise<BoundOwner | null> {
    return this.#connection.readTogether(() => this.#read());
  }

  async bind({ userId, deviceId }: StorageOwner): Promise<BoundOwner | null> {
    return this.#connection.write(() => {
      this.#insert.run('owner_user_id', userId);
      if (deviceId !== undefined && this.#read()?.userId === userId) this.#insert.run('owner_device_id', deviceId);
      return this.#read();
    });
  }

  async recordRemoval(): Promise<void> {
    await this.#connection.write(() => {
      if (this.#read() !== null) this.#insert.run('owner_is_removed', 'true');
    });
  }

  #read(): BoundOwner | null {
    const userId = this.#select.get('owner_user_id');
    if (userId === undefined) return null;
    const deviceId = this.#select.get('owner_device_id');
    const isRemoved = this.#select.get('owner_is_removed') !== undefined;
    return { userId, ...(deviceId !== undefined && { deviceId }), ...(isRemoved && { isRemoved }) };
  }
}
