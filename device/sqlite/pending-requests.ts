import { randomUUID } from 'node:crypto';
import type Database from 'better-sqlite3';
import type { BudgetTable } from '../contract/budget';
import { COIN_CATEGORY_NAMES, type CoinCategoryName, perCategory } from '../contract/coin-category';
import type { CoinName } from '../contract/inventory';
import {
  type ContactAddress,
  type DeviceMissing,
  type DiscardedCoin,
  MAX_ATTEMPT_MS,
  MAX_REQUEST_COINS,
  type OnDemandWish,
  type PendingRequest,
  RESERVATION_MS,
  type SettledRequest,
} from '../contract/pending-requests';
import type { PendingRequestsEngine } from '../contract/storage-engine';
import type { Times } from '../contract/trusted-clock';
import { type CheckedInventoryCoin, ofDevice, UNNAMED } from '../contract/validate';
import { CoinCache } from './coin-cache';
import type { Connection } from './connection';
import { ContactDevices } from './contact-devices';

type Purpose = 'TOP_UP' | 'ON_DEMAND';
type Wish = Omit<PendingRequest, 'requestId' | 'count'>;

interface RequestRow {
  readonly request_id: string;
  readonly contact_id: string;
  readonly user_id: string;
  readonly device_id: string;
  /** A JSON array of device ids, or null. */
  readonly device_ids: string | null;
  readonly coin_category: CoinCategoryName;
  readonly count: number;
  readonly allow_lower_categories: number;
  readonly asked_at: number;
}

/** The pending requests in SQLite, in the table open_request. Its column `asking` is the count of attempts. */
export class SqlitePendingRequests implements PendingRequestsEngine {
  readonly #connection: Connection;
  readonly #cache: CoinCache;
  readonly #devices: ContactDevices;
  /** The on-demand requests that calls of this process are using. */
  readonly #inUse = new Set<string>();
  readonly #closeForOtherUsers: Database.Statement<[string, string]>;
  readonly #topUps: Database.Statement<[string], RequestRow>;
  readonly #onDemand: Database.Statement<[string, string, string | null, CoinCategoryName, number], RequestRow>;
  readonly #insert: Database.Statement<
    [string, Purpose, string, string, string, string | null, CoinCategoryName, number, number, number]
  >;
  readonly #recordAttempt: Database.Statement<[number, number, string]>;
  readonly #forgetAttempt: Database.Statement<[string]>;
  readonly #closeUnlessInFlight: Database.Statement<[string]>;
  readonly #close: Database.Statement<[string]>;

  constructor(connection: Connection, budgets: BudgetTable) {
    this.#connection = connection;
    this.#cache = new CoinCache(connection, budgets);
    this.#devices = new ContactDevices(connection, this.#cache);
    this.#closeForOtherUsers = connection.prepare(
      `DELETE FROM open_request WHERE contact_id = ? AND purpose = 'TOP_UP' AND user_id <> ?`,
    );
    this.#topUps = connection.prepare(`SELECT * FROM open_request WHERE contact_id = ? AND purpose = 'TOP_UP'`);
    this.#onDemand = connection.prepare(
      `SELECT * FROM open_request WHERE contact_id = ? AND purpose = 'ON_DEMAND' AND user_id = ? AND device_ids IS ?
       AND coin_category = ? AND allow_lower_categories = ? ORDER BY asked_at`,
    );
    this.#insert = connection.prepare(
      `INSERT INTO open_request
         (request_id, purpose, contact_id, user_id, device_id, device_ids, coin_category, count,
          allow_lower_categories, asking, asked_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?)`,
    );
    this.#recordAttempt = connection.prepare(
      'UPDATE open_request SET asking = CASE WHEN asked_at <= ? THEN 1 ELSE asking + 1 END, asked_at = ? WHERE request_id = ?',
    );
    this.#forgetAttempt = connection.prepare('UPDATE open_request SET asking = asking - 1 WHERE request_id = ?');
    this.#closeUnlessInFlight = connection.prepare('DELETE FROM open_request WHERE request_id = ? AND asking <= 0');
    this.#close = connection.prepare('DELETE FROM open_request WHERE request_id = ?');
  }

  async resumeTopUps(contacts: readonly ContactAddress[]): Promise<PendingRequest[]> {
    return this.#connection.write((nowMs) =>
      contacts.flatMap(({ contactId, userId }) => {
        // Coins of another user would be useless for this contact.
        this.#closeForOtherUsers.run(contactId, userId);
        return this.#topUps.all(contactId).flatMap((row) => this.#resumeOrClose(row, nowMs));
      }),
    );
  }

  async reserveRoom(contacts: readonly ContactAddress[]): Promise<PendingRequest[]> {
    return this.#connection.write(
      (nowMs) => {
        const requests: PendingRequest[] = [];
        for (const address of contacts) {
          for (const deviceId of this.#cache.devicesOf(address.contactId)) {
            for (const coinCategory of COIN_CATEGORY_NAMES) {
              const wish = { ...address, ...ofDevice(deviceId), coinCategory, allowLowerCategories: false };
              let room = this.#cache.room(address.contactId, deviceId, coinCategory, nowMs);
              for (; room > 0; room -= MAX_REQUEST_COINS) {
                requests.push(this.#add('TOP_UP', wish, Math.min(room, MAX_REQUEST_COINS), nowMs));
              }
            }
          }
        }
        return requests;
      },
      { adds: contacts.length },
    );
  }

  async learnDevices(contactId: string, deviceIds: readonly string[]): Promise<{ removed: CoinName[] }> {
    const work = () => ({ removed: this.#devices.learn(contactId, deviceIds) });
    return this.#connection.write(work, { adds: deviceIds.length });
  }

  async missingCoins(contacts: readonly ContactAddress[]): Promise<Map<string, DeviceMissing[]>> {
    return this.#connection.readTogether(
      (nowMs) =>
        new Map(
          contacts.map(({ contactId }) => [
            contactId,
            this.#cache.devicesOf(contactId).map((deviceId) => ({
              ...ofDevice(deviceId),
              missing: perCategory((category) => this.#cache.missing(contactId, deviceId, category, nowMs)),
            })),
          ]),
        ),
    );
  }

  async settleTopUp(request: PendingRequest, coins: readonly CheckedInventoryCoin[]): Promise<SettledRequest> {
    return this.#connection.write(
      (nowMs, forgetMs, trustedMs) => {
        this.#cache.forgetExpired(forgetMs);
        const stored: CoinName[] = [];
        const discarded: DiscardedCoin[] = [];
        for (const coin of coins) {
          const name = { keyId: coin.keyId, coinCategory: coin.coinCategory };
          const fate = this.#keep(coin, { nowMs, forgetMs, trustedMs });
          if (fate === 'STORED') stored.push(name);
          else if (fate !== 'HELD') discarded.push({ ...name, reason: fate });
        }
        if (coins.length > 0) this.#close.run(request.requestId);
        else this.#closeEmpty(request);
        return { stored, discarded };
      },
      { adds: coins.length },
    );
  }

  async discard(contactId: string, coins: readonly CheckedInventoryCoin[]): Promise<void> {
    await this.#connection.write(() => {
      for (const { keyId, expiresAtMs } of coins) this.#cache.rememberUsed(contactId, keyId, expiresAtMs);
    });
  }

  async openOnDemand(wish: OnDemandWish, { fresh }: { readonly fresh: boolean }): Promise<PendingRequest> {
    const { contactId, userId, deviceIds, coinCategory, allowLowerCategories } = wish;
    return this.#connection.write(
      (nowMs) => {
        const pending = fresh
          ? []
          : this.#onDemand.all(contactId, userId, listText(deviceIds), coinCategory, Number(allowLowerCategories));
        const row = pending.find(({ request_id }) => !this.#inUse.has(request_id));
        const request = row === undefined ? this.#add('ON_DEMAND', wish, 1, nowMs) : this.#resumeOnDemand(row, nowMs);
        // In the same step, so that another call of this process does not find it.
        this.#inUse.add(request.requestId);
        return request;
      },
      { adds: 1 },
    );
  }

  async settleOnDemand(request: PendingRequest, coins: readonly CheckedInventoryCoin[]): Promise<boolean[]> {
    return this.#connection.write((nowMs, _, trustedMs) => {
      if (coins.length > 0) this.#close.run(request.requestId);
      else this.#closeEmpty(request);
      return coins.map((coin) => {
        if (coin.expiresAtMs <= nowMs) return false;
        if (this.#cache.lookUp(coin.contactId, coin.keyId, nowMs, trustedMs) !== 'NEW') return false;
        this.#cache.rememberUsed(coin.contactId, coin.keyId, coin.expiresAtMs);
        this.#cache.touch(coin.contactId, nowMs);
        return true;
      });
    });
  }

  async recordAttempts(requests: readonly PendingRequest[]): Promise<void> {
    await this.#connection.write((nowMs) => {
      for (const { requestId } of requests) this.#countAttempt(requestId, nowMs);
    });
  }

  async release(request: PendingRequest): Promise<void> {
    this.#inUse.delete(request.requestId);
  }

  async abandon(request: PendingRequest): Promise<void> {
    await this.#connection.write(() => this.#close.run(request.requestId));
  }

  /**
   * Stores a fetched coin if the budget exceeds the usable coins. Room that was reserved meanwhile does not count,
   * because a fetched coin is worth more than a requested one. A coin that only a wrong clock calls expired is
   * stored.
   */
  #keep(
    coin: CheckedInventoryCoin,
    { nowMs, forgetMs, trustedMs }: Times,
  ): 'STORED' | 'HELD' | 'EXPIRED' | 'ALREADY_USED' | 'OVER_BUDGET' | 'DEVICE_REMOVED' {
    if (coin.expiresAtMs <= forgetMs) return 'EXPIRED';
    const known = this.#cache.lookUp(coin.contactId, coin.keyId, nowMs, trustedMs);
    if (known === 'HELD') return 'HELD';
    if (known === 'USED') return 'ALREADY_USED';
    const { contactId, deviceId, coinCategory } = coin;
    const isOverBudget = this.#cache.missing(contactId, deviceId, coinCategory, nowMs) === 0;
    if (isOverBudget || !this.#cache.isKnown(contactId, deviceId)) {
      this.#cache.rememberUsed(contactId, coin.keyId, coin.expiresAtMs);
      return isOverBudget ? 'OVER_BUDGET' : 'DEVICE_REMOVED';
    }
    this.#cache.put(coin, nowMs, forgetMs);
    return 'STORED';
  }

  /**
   * Takes one attempt off the count, and closes the request if none is left. The server does not remember empty
   * responses, so another attempt in flight may still get coins for this request.
   */
  #closeEmpty({ requestId }: PendingRequest): void {
    this.#forgetAttempt.run(requestId);
    this.#closeUnlessInFlight.run(requestId);
  }

  /** Resumes a reservation, unless it is old and its room was taken since: its coins would be new, and not fit. */
  #resumeOrClose(row: RequestRow, nowMs: number): PendingRequest[] {
    const isOld = Math.abs(row.asked_at - nowMs) >= RESERVATION_MS;
    if (!isOld || this.#cache.room(row.contact_id, row.device_id, row.coin_category, nowMs) >= row.count) {
      return [this.#resume(row, nowMs)];
    }
    this.#close.run(row.request_id);
    return [];
  }

  #resumeOnDemand(row: RequestRow, nowMs: number): PendingRequest {
    return { ...this.#resume(row, nowMs), isResumed: true };
  }

  #resume(row: RequestRow, nowMs: number): PendingRequest {
    this.#countAttempt(row.request_id, nowMs);
    return {
      requestId: row.request_id,
      contactId: row.contact_id,
      userId: row.user_id,
      ...ofDevice(row.device_id),
      ...(row.device_ids === null ? {} : { deviceIds: JSON.parse(row.device_ids) as string[] }),
      coinCategory: row.coin_category,
      count: row.count,
      allowLowerCategories: row.allow_lower_categories === 1,
    };
  }

  #countAttempt(requestId: string, nowMs: number): void {
    this.#recordAttempt.run(nowMs - MAX_ATTEMPT_MS, nowMs, requestId);
  }

  #add(purpose: Purpose, wish: Wish, count: number, nowMs: number): PendingRequest {
    const { contactId, userId, deviceId = UNNAMED, deviceIds, coinCategory, allowLowerCategories } = wish;
    const requestId = randomUUID();
    const devices = [deviceId, listText(deviceIds)] as const;
    const lower = Number(allowLowerCategories);
    this.#insert.run(requestId, purpose, contactId, userId, ...devices, coinCategory, count, lower, nowMs);
    return { ...wish, requestId, count };
  }
}

/** Returns a list of device ids as it is stored. Lists are sorted, so that equal ones have the same text. */
function listText(deviceIds: readonly string[] | undefined): string | null {
  return deviceIds === undefined ? null : JSON.stringify(deviceIds);
}
