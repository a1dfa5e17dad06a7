import type Database from 'better-sqlite3';
import type { CoinCategoryName } from '../contract/coin-category';
import type { CoinName } from '../contract/inventory';
import {
  type CategoryRoom,
  type DroppedCoin,
  FINAL_OUTCOMES,
  type FinalOutcome,
  MAX_EXAMINED,
  type OutboxBatch,
  type OutboxCoin,
  type RefusedCoin,
} from '../contract/outbox';
import type { OutboxEngine } from '../contract/storage-engine';
import { type CheckedMintedCoin, DAY_MS } from '../contract/validate';
import { DELIVERY_WINDOW_DAYS } from '../contract/vault';
import { StorageCorruptedError } from '../errors';
import { type Connection, toBytes } from './connection';
import { type InsertVaultKey, prepareInsertVaultKey } from './vault';

interface OutboxRow {
  readonly sequence: number;
  readonly key_id: string;
  readonly coin_category: CoinCategoryName;
  readonly sent_epoch: string | null;
  /** The private half's `expires_at` in the vault; NULL if it is no longer there. */
  readonly vault_expires_at: number | null;
}

interface PublicHalf {
  readonly public_key: Uint8Array;
  readonly signature: Uint8Array;
}

interface HeldRow {
  readonly coin_category: CoinCategoryName;
  readonly expires_at: number;
  readonly encrypted_blob: Uint8Array;
}

/**
 * A row of published_coin. If the coin must not be sent again, its public half is empty, and `sent_epoch` holds the
 * FinalOutcome: then no epoch allows it to be sent.
 */
interface PublishedRow {
  readonly sent_epoch: string;
  readonly public_key: Uint8Array;
}

/** The outbox in SQLite, with the kept public halves and the final outcomes in published_coin. */
export class SqliteOutbox implements OutboxEngine {
  readonly #connection: Connection;
  readonly #insertVaultKey: InsertVaultKey;
  readonly #held: Database.Statement<[string], HeldRow>;
  readonly #waiting: Database.Statement<[string], Uint8Array>;
  readonly #published: Database.Statement<[string], PublishedRow>;
  readonly #insert: Database.Statement<[string, string, Uint8Array, Uint8Array]>;
  readonly #next: Database.Statement<[number, number], OutboxRow>;
  readonly #publicHalf: Database.Statement<[number], PublicHalf>;
  readonly #recordEpoch: Database.Statement<[string, number]>;
  readonly #delete: Database.Statement<[string]>;
  readonly #keep: Database.Statement<[string]>;
  readonly #forget: Database.Statement<[string]>;
  readonly #remember: Database.Statement<[FinalOutcome, string]>;
  readonly #putBack: Database.Statement<[string, string, number]>;
  readonly #waits: Database.Statement<[string, string], number>;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#insertVaultKey = prepareInsertVaultKey(connection);
    this.#held = connection.prepare('SELECT coin_category, expires_at, encrypted_blob FROM vault_key WHERE key_id = ?');
    this.#waiting = connection.prepare<[string], Uint8Array>('SELECT public_key FROM outbox WHERE key_id = ?').pluck();
    this.#published = connection.prepare('SELECT sent_epoch, public_key FROM published_coin WHERE key_id = ?');
    // An old row with the same id can only be one whose private half is gone.
    this.#insert = connection.prepare(
      'INSERT OR REPLACE INTO outbox (key_id, coin_category, public_key, signature) VALUES (?, ?, ?, ?)',
    );
    this.#next = connection.prepare(
      `SELECT sequence, outbox.key_id, outbox.coin_category, sent_epoch, expires_at AS vault_expires_at
       FROM outbox LEFT JOIN vault_key USING (key_id) WHERE sequence > ? ORDER BY sequence LIMIT ?`,
    );
    this.#publicHalf = connection.prepare('SELECT public_key, signature FROM outbox WHERE sequence = ?');
    this.#recordEpoch = connection.prepare(
      'UPDATE outbox SET sent_epoch = ? WHERE sequence = ? AND sent_epoch IS NULL',
    );
    this.#delete = connection.prepare('DELETE FROM outbox WHERE key_id = ?');
    // A public half is of no use without its private half. Only a coin that was sent can have been acknowledged.
    this.#keep = connection.prepare(
      `INSERT OR REPLACE INTO published_coin (key_id, coin_category, expires_at, sent_epoch, public_key, signature)
       SELECT key_id, outbox.coin_category, expires_at, sent_epoch, public_key, signature
       FROM outbox JOIN vault_key USING (key_id) WHERE key_id = ? AND sent_epoch IS NOT NULL`,
    );
    this.#forget = connection.prepare('DELETE FROM published_coin WHERE key_id = ?');
    this.#remember = connection.prepare(
      `INSERT INTO published_coin (key_id, coin_category, expires_at, sent_epoch, public_key, signature)
       SELECT key_id, coin_category, expires_at, ?, x'', x'' FROM vault_key WHERE key_id = ?
       ON CONFLICT (key_id) DO UPDATE SET sent_epoch = excluded.sent_epoch, public_key = x'', signature = x''
       WHERE public_key <> x''`,
    );
    this.#putBack = connection.prepare(
      `INSERT INTO outbox (key_id, coin_category, sent_epoch, public_key, signature)
       SELECT key_id, published_coin.coin_category, sent_epoch, public_key, signature
       FROM published_coin JOIN vault_key USING (key_id)
       WHERE key_id = ? AND sent_epoch = ? AND vault_key.expires_at > ?
       ON CONFLICT (key_id) DO NOTHING`,
    );
    this.#waits = connection
      .prepare<[string, string], number>(
        'SELECT 1 FROM outbox WHERE key_id = ? AND (sent_epoch IS NULL OR sent_epoch = ?)',
      )
      .pluck();
  }

  async add(coins: readonly CheckedMintedCoin[]): Promise<RefusedCoin[]> {
    return this.#connection.write(
      (nowMs, _, trustedMs) => {
        const refused: RefusedCoin[] = [];
        for (const coin of coins) {
          const { keyId, coinCategory, publicKey, signature } = coin;
          const known = this.#insertVaultKey(coin, nowMs, trustedMs) ? null : this.#lookUp(coin, nowMs);
          if (known === null) this.#insert.run(keyId, coinCategory, publicKey, signature);
          else if (known !== 'WAITS') refused.push({ keyId, coinCategory, reason: known });
        }
        return refused;
      },
      { adds: 2 * coins.length },
    );
  }

  async takeBatch(
    databaseEpoch: string,
    afterSequence: number,
    limit: number,
    room?: CategoryRoom,
  ): Promise<OutboxBatch> {
    return this.#connection.write((_, forgetMs) => {
      const coins: OutboxCoin[] = [];
      const dropped: DroppedCoin[] = [];
      const held: CoinName[] = [];
      const left = { ...room };
      let last = afterSequence;
      for (let examined = 0; examined < MAX_EXAMINED; examined += limit) {
        const rows = this.#next.all(last, limit);
        for (const row of rows) {
          if (coins.length === limit) return { coins, dropped, held, lastSequence: last };
          last = row.sequence;
          const name = { keyId: row.key_id, coinCategory: row.coin_category };
          const reason = whyUnsendable(row, databaseEpoch, forgetMs);
          if (reason !== null) {
            this.#drop(row, reason);
            dropped.push({ ...name, reason });
          } else if (room !== undefined && !takeRoom(left, row, limit)) {
            held.push(name);
          } else {
            this.#recordEpoch.run(databaseEpoch, row.sequence);
            coins.push(toCoin(row, this.#publicHalf.get(row.sequence)));
          }
        }
        if (rows.length < limit) return { coins, dropped, held, lastSequence: null };
      }
      return { coins, dropped, held, lastSequence: last };
    });
  }

  async acknowledge(keyIds: readonly string[]): Promise<void> {
    await this.#connection.write(() => {
      for (const keyId of keyIds) {
        this.#keep.run(keyId);
        this.#delete.run(keyId);
      }
    });
  }

  async remove(keyIds: readonly string[], outcome: FinalOutcome): Promise<void> {
    await this.#connection.write(() => {
      for (const keyId of keyIds) {
        this.#delete.run(keyId);
        this.#remember.run(outcome, keyId);
      }
    });
  }

  async conflictsAmong(keyIds: readonly string[]): Promise<string[]> {
    return this.#connection.readTogether(() =>
      keyIds.filter((keyId) => this.#published.get(keyId)?.sent_epoch === ('CONFLICT' satisfies FinalOutcome)),
    );
  }

  async publishAgain(databaseEpoch: string, keyIds: readonly string[]): Promise<string[]> {
    return this.#connection.write((nowMs) =>
      keyIds.filter((keyId) => {
        const sentEpoch = this.#published.get(keyId)?.sent_epoch;
        if (sentEpoch !== undefined && sentEpoch !== databaseEpoch) this.#remember.run('EPOCH_CHANGED', keyId);
        if (this.#putBack.run(keyId, databaseEpoch, nowMs).changes === 1) this.#forget.run(keyId);
        return this.#waits.get(keyId, databaseEpoch) !== undefined;
      }),
    );
  }

  /**
   * Looks up a coin whose id the vault knows. Returns null if its private half is held and its public half never was in
   * the outbox.
   */
  #lookUp(coin: CheckedMintedCoin, nowMs: number): RefusedCoin['reason'] | 'WAITS' | null {
    const held = this.#held.get(coin.keyId);
    if (held === undefined) return 'BURNED';
    if (held.expires_at <= nowMs) return 'EXPIRED';
    const isSameKey =
      Buffer.compare(held.encrypted_blob, coin.encryptedBlob) === 0 &&
      held.coin_category === coin.coinCategory &&
      (held.expires_at === coin.expiresAtMs || !coin.isExpiryGiven);
    if (!isSameKey) return 'OTHER_KEY_HELD';
    const waiting = this.#waiting.get(coin.keyId);
    if (waiting !== undefined) return Buffer.compare(waiting, coin.publicKey) === 0 ? 'WAITS' : 'OTHER_KEY_HELD';
    const published = this.#published.get(coin.keyId);
    if (published === undefined) return null;
    if (published.public_key.length === 0) return finalOutcome(published.sent_epoch);
    return Buffer.compare(published.public_key, coin.publicKey) === 0 ? 'SENT_BEFORE' : 'OTHER_KEY_HELD';
  }

  /** Removes a coin that must not be sent. If it was sent before, that is remembered as long as its private half is there. */
  #drop({ key_id: keyId, sent_epoch: sentEpoch }: OutboxRow, reason: DroppedCoin['reason']): void {
    // Whether the coin is in stock is not known, so that reconcileCoins may still need its public half.
    if (reason === 'EXPIRED') this.#keep.run(keyId);
    this.#delete.run(keyId);
    if (reason === 'EPOCH_CHANGED' && sentEpoch !== null) this.#remember.run(reason, keyId);
  }
}

/** Returns null if the coin may be sent. */
function whyUnsendable(row: OutboxRow, databaseEpoch: string, forgetMs: number): DroppedCoin['reason'] | null {
  if (row.vault_expires_at === null) return 'BURNED';
  if (row.vault_expires_at <= forgetMs) return 'EXPIRED';
  return row.sent_epoch === null || row.sent_epoch === databaseEpoch ? null : 'EPOCH_CHANGED';
}

/** Takes one place of the coin's category. Returns false if there is none left. See CategoryRoom. */
function takeRoom(left: Partial<Record<CoinCategoryName, number>>, row: OutboxRow, limit: number): boolean {
  const places = left[row.coin_category] ?? (row.sent_epoch === null ? limit : 1);
  left[row.coin_category] = Math.max(0, places - 1);
  return places > 0;
}

function finalOutcome(text: string): FinalOutcome {
  const outcome = FINAL_OUTCOMES.find((known) => known === text);
  if (outcome === undefined) throw new StorageCorruptedError();
  return outcome;
}

function toCoin(row: OutboxRow, half: PublicHalf | undefined): OutboxCoin {
  if (half === undefined) throw new StorageCorruptedError();
  return {
    sequence: row.sequence,
    keyId: row.key_id,
    coinCategory: row.coin_category,
    publicKey: toBytes(half.public_key),
    signature: toBytes(half.signature),
    expireTime: new Date((row.vault_expires_at ?? 0) - DELIVERY_WINDOW_DAYS * DAY_MS),
  };
}
