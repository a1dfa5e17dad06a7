import { randomUUID } from 'node:crypto';
import type Database from 'better-sqlite3';
import type { BudgetTable } from '../contract/budget';
import { COIN_CATEGORY_NAMES, type CoinCategoryName, perCategory } from '../contract/coin-category';
import type { CoinName, InventoryCoin } from '../contract/inventory';
import type {
  ContactAddress,
  DiscardedCoin,
  OnDemandWish,
  PendingRequest,
  PendingRequests,
  SettledRequest,
} from '../contract/pending-requests';
import { type CheckedInventoryCoin, checkCategory, checkContacts } from '../contract/validate';
import type { Connection } from './connection';
import { Stock } from './stock';

type Purpose = 'TOP_UP' | 'ON_DEMAND';

interface RequestRow {
  readonly request_id: string;
  readonly contact_id: string;
  readonly user_id: string;
  readonly coin_category: CoinCategoryName;
  readonly count: number;
  readonly allow_lower_categories: number;
}

/** One request asks for at most this many coins. */
const MAX_COUNT = 20;
/** Nobody waits longer for an answer, so that an older ask without one is a crash or a lost reply, not on its way. */
const LONGEST_ASK_MS = 10 * 60_000;

export class SqlitePendingRequests implements PendingRequests {
  readonly #connection: Connection;
  readonly #stock: Stock;
  /** On-demand requests that a call of this process is asking with. */
  readonly #inUse = new Set<string>();
  readonly #closeForOtherUsers: Database.Statement<[string, string]>;
  readonly #topUps: Database.Statement<[string], RequestRow>;
  readonly #onDemand: Database.Statement<[string, string, CoinCategoryName, number], RequestRow>;
  readonly #insert: Database.Statement<[string, Purpose, string, string, CoinCategoryName, number, number, number]>;
  readonly #askAgain: Database.Statement<[number, number, string]>;
  readonly #answeredEmpty: Database.Statement<[string]>;
  readonly #closeUnlessAsked: Database.Statement<[string]>;
  readonly #close: Database.Statement<[string]>;

  constructor(connection: Connection, budgets: BudgetTable) {
    this.#connection = connection;
    this.#stock = new Stock(connection, budgets);
    this.#closeForOtherUsers = connection.prepare(
      `DELETE FROM open_request WHERE contact_id = ? AND purpose = 'TOP_UP' AND user_id <> ?`,
    );
    this.#topUps = connection.prepare(`SELECT * FROM open_request WHERE contact_id = ? AND purpose = 'TOP_UP'`);
    this.#onDemand = connection.prepare(
      `SELECT * FROM open_request WHERE contact_id = ? AND purpose = 'ON_DEMAND' AND user_id = ?
       AND coin_category = ? AND allow_lower_categories = ? ORDER BY asked_at`,
    );
    this.#insert = connection.prepare(
      `INSERT INTO open_request
         (request_id, purpose, contact_id, user_id, coin_category, count, allow_lower_categories, asking, asked_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?)`,
    );
    this.#askAgain = connection.prepare(
      'UPDATE open_request SET asking = CASE WHEN asked_at <= ? THEN 1 ELSE asking + 1 END, asked_at = ? WHERE request_id = ?',
    );
    this.#answeredEmpty = connection.prepare('UPDATE open_request SET asking = asking - 1 WHERE request_id = ?');
    this.#closeUnlessAsked = connection.prepare('DELETE FROM open_request WHERE request_id = ? AND asking <= 0');
    this.#close = connection.prepare('DELETE FROM open_request WHERE request_id = ?');
  }

  async resumeTopUps(contacts: readonly ContactAddress[]): Promise<PendingRequest[]> {
    const addresses = checkContacts(contacts);
    return this.#connection.write((nowMs) =>
      addresses.flatMap(({ contactId, userId }) => {
        // Coins of another user would be of no use to the contact.
        this.#closeForOtherUsers.run(contactId, userId);
        return this.#topUps.all(contactId).map((row) => this.#ask(row, nowMs));
      }),
    );
  }

  async reserveRoom(contacts: readonly ContactAddress[]): Promise<PendingRequest[]> {
    const addresses = checkContacts(contacts);
    return this.#connection.write((nowMs) => {
      const requests: PendingRequest[] = [];
      for (const address of addresses) {
        for (const coinCategory of COIN_CATEGORY_NAMES) {
          for (let room = this.#room(address, coinCategory, nowMs); room > 0; room -= MAX_COUNT) {
            const count = Math.min(room, MAX_COUNT);
            const wish = { ...address, coinCategory, allowLowerCategories: false };
            requests.push(this.#add('TOP_UP', wish, count, nowMs));
          }
        }
      }
      return requests;
    });
  }

  async missingCoins(contacts: readonly ContactAddress[]): Promise<Map<string, Record<CoinCategoryName, number>>> {
    const addresses = checkContacts(contacts);
    return this.#connection.readTogether(
      (nowMs) =>
        new Map(
          addresses.map(({ contactId }) => [
            contactId,
            perCategory((category) => this.#stock.missing(contactId, category, nowMs)),
          ]),
        ),
    );
  }

  async settleTopUp(request: PendingRequest, coins: readonly InventoryCoin[]): Promise<SettledRequest> {
    return this.#connection.write((nowMs) => {
      this.#stock.forgetEnded(nowMs);
      const stored: CoinName[] = [];
      const discarded: DiscardedCoin[] = [];
      for (const coin of coins) {
        const name = { keyId: coin.keyId, coinCategory: coin.coinCategory };
        const fate = this.#keep({ ...coin, expiresAtMs: coin.expiresAt.getTime() }, nowMs);
        if (fate === 'STORED') stored.push(name);
        else if (fate !== 'HELD') discarded.push({ ...name, reason: fate });
      }
      if (coins.length > 0) this.#close.run(request.requestId);
      else this.#closeEmpty(request);
      return { stored, discarded };
    });
  }

  async openOnDemand(wish: OnDemandWish, { fresh }: { readonly fresh: boolean }): Promise<PendingRequest> {
    const [address] = checkContacts([wish]) as [ContactAddress];
    const coinCategory = checkCategory('coinCategory', wish.coinCategory);
    const allowLowerCategories = wish.allowLowerCategories === true;
    const request = this.#connection.write((nowMs) => {
      const left = fresh
        ? []
        : this.#onDemand.all(address.contactId, address.userId, coinCategory, Number(allowLowerCategories));
      const row = left.find(({ request_id }) => !this.#inUse.has(request_id));
      if (row !== undefined) return this.#ask(row, nowMs);
      return this.#add('ON_DEMAND', { ...address, coinCategory, allowLowerCategories }, 1, nowMs);
    });
    this.#inUse.add(request.requestId);
    return request;
  }

  async settleOnDemand(request: PendingRequest, coin: InventoryCoin | null): Promise<boolean> {
    return this.#connection.write((nowMs) => {
      if (coin === null) {
        this.#closeEmpty(request);
        return false;
      }
      this.#close.run(request.requestId);
      if (coin.expiresAt.getTime() <= nowMs) return false;
      if (this.#stock.lookUp(coin.contactId, coin.keyId, nowMs) !== 'NEW') return false;
      this.#stock.rememberUsed(coin.contactId, coin.keyId, coin.expiresAt.getTime());
      this.#stock.touch(coin.contactId, nowMs);
      return true;
    });
  }

  async askAgain(requests: readonly PendingRequest[]): Promise<void> {
    this.#connection.write((nowMs) => {
      for (const { requestId } of requests) this.#countAsker(requestId, nowMs);
    });
  }

  async release(request: PendingRequest): Promise<void> {
    this.#inUse.delete(request.requestId);
  }

  async abandon(request: PendingRequest): Promise<void> {
    this.#connection.write(() => this.#close.run(request.requestId));
  }

  #room({ contactId }: ContactAddress, category: CoinCategoryName, nowMs: number): number {
    return this.#stock.room(contactId, category, nowMs);
  }

  /**
   * A fetched coin goes by the budget and the coins that are there; room that others reserved meanwhile gives way,
   * since a coin in hand is worth more than one asked for.
   */
  #keep(coin: CheckedInventoryCoin, nowMs: number): 'STORED' | 'HELD' | 'EXPIRED' | 'ALREADY_USED' | 'OVER_BUDGET' {
    if (coin.expiresAtMs <= nowMs) return 'EXPIRED';
    const known = this.#stock.lookUp(coin.contactId, coin.keyId, nowMs);
    if (known === 'HELD') return 'HELD';
    if (known === 'USED') return 'ALREADY_USED';
    if (this.#stock.missing(coin.contactId, coin.coinCategory, nowMs) === 0) {
      this.#stock.rememberUsed(coin.contactId, coin.keyId, coin.expiresAtMs);
      return 'OVER_BUDGET';
    }
    this.#stock.put(coin, nowMs);
    return 'STORED';
  }

  /** An empty answer is not remembered by the server: another asker may still get coins for this request. */
  #closeEmpty({ requestId }: PendingRequest): void {
    this.#answeredEmpty.run(requestId);
    this.#closeUnlessAsked.run(requestId);
  }

  #ask(row: RequestRow, nowMs: number): PendingRequest {
    this.#countAsker(row.request_id, nowMs);
    return {
      requestId: row.request_id,
      contactId: row.contact_id,
      userId: row.user_id,
      coinCategory: row.coin_category,
      count: row.count,
      allowLowerCategories: row.allow_lower_categories === 1,
    };
  }

  #countAsker(requestId: string, nowMs: number): void {
    this.#askAgain.run(nowMs - LONGEST_ASK_MS, nowMs, requestId);
  }

  #add(purpose: Purpose, wish: OnDemandWish, count: number, nowMs: number): PendingRequest {
    const request = { ...wish, requestId: randomUUID(), count };
    this.#insert.run(
      request.requestId,
      purpose,
      wish.contactId,
      wish.userId,
      wish.coinCategory,
      count,
      Number(wish.allowLowerCategories),
      nowMs,
    );
    return request;
  }
}
