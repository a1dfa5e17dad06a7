import type Database from 'better-sqlite3';
import type { CoinCategoryName } from '../contract/coin-category';
import type { DroppedCoin, OutboxBatch, OutboxCoin, RefusedCoin } from '../contract/outbox';
import type { OutboxEngine } from '../contract/storage-engine';
import { type CheckedMintedCoin, DAY_MS } from '../contract/validate';
import { DELIVERY_WINDOW_DAYS } from '../contract/vault';
import { type Connection, toBytes } from './connection';
import { type InsertVaultKey, prepareInsertVaultKey } from './vault';

interface OutboxRow {
  readonly sequence: number;
  readonly key_id: string;
  readonly coin_category: CoinCategoryName;
  readonly sent_epoch: string | null;
  readonly public_key: Uint8Array;
  readonly signature: Uint8Array;
  /** The private half's `expires_at` in the vault; NULL if it is no longer there. */
  readonly vault_expires_at: number | null;
}

interface HeldRow {
  readonly expires_at: number;
  readonly encrypted_blob: Uint8Array;
}

/** The outbox in SQLite, with the kept public halves in published_coin. */
export class SqliteOutbox implements OutboxEngine {
  readonly #connection: Connection;
  readonly #insertVaultKey: InsertVaultKey;
  readonly #held: Database.Statement<[string], HeldRow>;
  readonly #waiting: Database.Statement<[string, Uint8Array, Uint8Array], number>;
  readonly #insert: Database.Statement<[string, string, Uint8Array, Uint8Array]>;
  readonly #unsendable: Database.Statement<[number, string], Omit<OutboxRow, 'public_key' | 'signature'>>;
  readonly #next: Database.Statement<[number, number], OutboxRow>;
  readonly #recordEpoch: Database.Statement<[string, number]>;
  readonly #delete: Database.Statement<[string]>;
  readonly #keep: Database.Statement<[string]>;
  readonly #forget: Database.Statement<[string]>;
  readonly #forgetOtherEpoch: Database.Statement<[string, string]>;
  readonly #putBack: Database.Statement<[string, number]>;
  readonly #waits: Database.Statement<[string, string], number>;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#insertVaultKey = prepareInsertVaultKey(connection);
    this.#held = connection.prepare('SELECT expires_at, encrypted_blob FROM vault_key WHERE key_id = ?');
    this.#waiting = connection
      .prepare<[string, Uint8Array, Uint8Array], number>(
        'SELECT 1 FROM outbox WHERE key_id = ? AND public_key = ? AND signature = ?',
      )
      .pluck();
    // An old row with the same id can only be one whose private half is gone.
    this.#insert = connection.prepare(
      'INSERT OR REPLACE INTO outbox (key_id, coin_category, public_key, signature) VALUES (?, ?, ?, ?)',
    );
    this.#unsendable = connection.prepare(
      `SELECT sequence, outbox.key_id, outbox.coin_category, sent_epoch, expires_at AS vault_expires_at
       FROM outbox LEFT JOIN vault_key USING (key_id)
       WHERE expires_at IS NULL OR expires_at <= ? OR sent_epoch <> ?
       ORDER BY sequence`,
    );
    this.#next = connection.prepare(
      `SELECT sequence, outbox.key_id, outbox.coin_category, sent_epoch, public_key, signature, expires_at AS vault_expires_at
       FROM outbox JOIN vault_key USING (key_id) WHERE sequence > ? ORDER BY sequence LIMIT ?`,
    );
    this.#recordEpoch = connection.prepare('UPDATE outbox SET sent_epoch = ? WHERE sequence = ?');
    this.#delete = connection.prepare('DELETE FROM outbox WHERE key_id = ?');
    // A public half is of no use without its private half. Only a coin that was sent can have been acknowledged.
    this.#keep = connection.prepare(
      `INSERT OR REPLACE INTO published_coin (key_id, coin_category, expires_at, sent_epoch, public_key, signature)
       SELECT key_id, outbox.coin_category, expires_at, sent_epoch, public_key, signature
       FROM outbox JOIN vault_key USING (key_id) WHERE key_id = ? AND sent_epoch IS NOT NULL`,
    );
    this.#forget = connection.prepare('DELETE FROM published_coin WHERE key_id = ?');
    this.#forgetOtherEpoch = connection.prepare('DELETE FROM published_coin WHERE key_id = ? AND sent_epoch <> ?');
    this.#putBack = connection.prepare(
      `INSERT INTO outbox (key_id, coin_category, sent_epoch, public_key, signature)
       SELECT key_id, published_coin.coin_category, sent_epoch, public_key, signature
       FROM published_coin JOIN vault_key USING (key_id) WHERE key_id = ? AND vault_key.expires_at > ?
       ON CONFLICT (key_id) DO NOTHING`,
    );
    this.#waits = connection
      .prepare<[string, string], number>(
        'SELECT 1 FROM outbox WHERE key_id = ? AND (sent_epoch IS NULL OR sent_epoch = ?)',
      )
      .pluck();
  }

  async add(coins: readonly CheckedMintedCoin[]): Promise<RefusedCoin[]> {
    return this.#connection.write((nowMs, forgetMs) => {
      const refused: RefusedCoin[] = [];
      for (const coin of coins) {
        const { keyId, coinCategory, publicKey, signature } = coin;
        if (this.#insertVaultKey(coin, nowMs, forgetMs)) this.#insert.run(keyId, coinCategory, publicKey, signature);
        else {
          const reason = this.#whyRefused(coin, nowMs);
          const waiting = reason === 'SAME_KEY_HELD' && this.#waiting.get(keyId, publicKey, signature) !== undefined;
          if (!waiting) refused.push({ keyId, coinCategory, reason });
        }
      }
      return refused;
    });
  }

  async takeBatch(databaseEpoch: string, afterSequence: number, limit: number): Promise<OutboxBatch> {
    return this.#connection.write((_, forgetMs) => {
      const dropped = this.#unsendable.all(forgetMs, databaseEpoch).map((row): DroppedCoin => {
        this.#delete.run(row.key_id);
        const reason =
          row.vault_expires_at === null ? 'BURNED' : row.vault_expires_at <= forgetMs ? 'EXPIRED' : 'EPOCH_CHANGED';
        return { keyId: row.key_id, coinCategory: row.coin_category, reason };
      });
      const rows = this.#next.all(afterSequence, limit);
      for (const row of rows) if (row.sent_epoch === null) this.#recordEpoch.run(databaseEpoch, row.sequence);
      return { coins: rows.map(toCoin), dropped };
    });
  }

  async acknowledge(keyIds: readonly string[]): Promise<void> {
    this.#connection.write(() => {
      for (const keyId of keyIds) {
        this.#keep.run(keyId);
        this.#delete.run(keyId);
      }
    });
  }

  async remove(keyIds: readonly string[]): Promise<void> {
    this.#connection.write(() => {
      for (const keyId of keyIds) {
        this.#delete.run(keyId);
        this.#forget.run(keyId);
      }
    });
  }

  async publishAgain(databaseEpoch: string, keyIds: readonly string[]): Promise<string[]> {
    return this.#connection.write((nowMs) =>
      keyIds.filter((keyId) => {
        this.#forgetOtherEpoch.run(keyId, databaseEpoch);
        if (this.#putBack.run(keyId, nowMs).changes === 1) this.#forget.run(keyId);
        return this.#waits.get(keyId, databaseEpoch) !== undefined;
      }),
    );
  }

  #whyRefused(coin: CheckedMintedCoin, nowMs: number): RefusedCoin['reason'] {
    const held = this.#held.get(coin.keyId);
    if (held === undefined) return 'BURNED';
    if (held.expires_at <= nowMs) return 'EXPIRED';
    return Buffer.compare(held.encrypted_blob, coin.encryptedBlob) === 0 ? 'SAME_KEY_HELD' : 'OTHER_KEY_HELD';
  }
}

function toCoin(row: OutboxRow): OutboxCoin {
  return {
    sequence: row.sequence,
    keyId: row.key_id,
    coinCategory: row.coin_category,
    publicKey: toBytes(row.public_key),
    signature: toBytes(row.signature),
    expireTime: new Date((row.vault_expires_at ?? 0) - DELIVERY_WINDOW_DAYS * DAY_MS),
  };
}
