import { randomUUID } from 'node:crypto';
import { type BudgetTable, CONTACT_PRIORITIES } from '../contract/budget';
import { COIN_CATEGORY_NAMES, type CoinCategoryName, perCategory } from '../contract/coin-category';
import type { InventoryCoin } from '../contract/inventory';
import type {
  ContactAddress,
  DiscardedCoin,
  OnDemandWish,
  PendingRequest,
  PendingRequests,
  SettledRequest,
} from '../contract/pending-requests';
import { checkCategory, checkContacts } from '../contract/validate';
import type { Argument, Connection } from './connection';
import type { Keys } from './keys';
import { categoryIn, listIn, numberIn, oneOf, type Reply, rowsIn, textIn } from './reply';
import type { Stock } from './stock';
import { ttlMs } from './ttl';

/** One request asks for at most this many coins. */
const MAX_COUNT = 20;
/** Nobody waits longer for an answer, so that an older ask without one is a crash or a lost reply, not on its way. */
const LONGEST_ASK_MS = 10 * 60_000;

const FATES = ['STORED', 'HELD', 'EXPIRED', 'ALREADY_USED', 'OVER_BUDGET'] as const;

export class RedisPendingRequests implements PendingRequests {
  readonly #connection: Connection;
  readonly #keys: Keys;
  readonly #stock: Stock;
  /** Most requests that one contact's whole budget can take. */
  readonly #maxRequests: number;
  /** On-demand requests that a call of this process is asking with. */
  readonly #inUse = new Set<string>();
  /** The last opening of an on-demand request: each must know what the one before it got. */
  #opening: Promise<unknown> = Promise.resolve();

  constructor(connection: Connection, keys: Keys, stock: Stock, budgets: BudgetTable) {
    this.#connection = connection;
    this.#keys = keys;
    this.#stock = stock;
    const requestsOf = (category: CoinCategoryName) =>
      Math.max(...CONTACT_PRIORITIES.map((priority) => Math.ceil(budgets[priority][category] / MAX_COUNT)));
    this.#maxRequests = COIN_CATEGORY_NAMES.reduce((sum, category) => sum + requestsOf(category), 0);
  }

  async resumeTopUps(contacts: readonly ContactAddress[]): Promise<PendingRequest[]> {
    const addresses = this.#tagged(contacts);
    const reply = await this.#aboutContacts('top-ups-resume', addresses, (nowMs) => [
      nowMs - LONGEST_ASK_MS,
      ...addresses.flatMap(({ tag, userTag }) => [tag, userTag]),
    ]);
    return rowsIn(reply, 4).map((row) => toTopUp(addresses, row));
  }

  async reserveRoom(contacts: readonly ContactAddress[]): Promise<PendingRequest[]> {
    const addresses = this.#tagged(contacts);
    const reply = await this.#aboutContacts('room-reserve', addresses, () => [
      MAX_COUNT,
      this.#maxRequests,
      ...addresses.flatMap(({ tag, userTag, contactId, userId }) => [
        tag,
        userTag,
        this.#stock.nameOf(contactId),
        this.#stock.nameOf(userId),
        ...Array.from({ length: this.#maxRequests }, () => randomUUID()),
      ]),
    ]);
    return rowsIn(reply, 4).map((row) => toTopUp(addresses, row));
  }

  async missingCoins(contacts: readonly ContactAddress[]): Promise<Map<string, Record<CoinCategoryName, number>>> {
    const addresses = this.#tagged(contacts);
    const reply = await this.#aboutContacts('coins-missing', addresses, () => addresses.map(({ tag }) => tag));
    const rows = rowsIn(reply, COIN_CATEGORY_NAMES.length);
    return new Map(
      addresses.map(({ contactId }, index) => [
        contactId,
        perCategory((category) => numberIn(rows[index]?.[COIN_CATEGORY_NAMES.indexOf(category)])),
      ]),
    );
  }

  async settleTopUp(request: PendingRequest, coins: readonly InventoryCoin[]): Promise<SettledRequest> {
    const people = [...new Set([request.contactId, ...coins.map(({ contactId }) => contactId)])];
    const named = people.map((contactId) => this.#stock.person(contactId));
    const bytes = coins.map(({ publicKey, signature }) => [Buffer.from(publicKey), Buffer.from(signature)]);
    const tags = named.map(([tag]) => tag);
    const reply = await this.#stock.run('top-up-settle', tags, (nowMs) => [
      request.requestId,
      named.length,
      ...named.flat(),
      ...coins.flatMap(({ contactId, keyId, coinCategory, expiresAt }, index): Argument[] => [
        people.indexOf(contactId) + 1,
        keyId,
        coinCategory,
        expiresAt.getTime(),
        ttlMs(expiresAt.getTime(), nowMs),
        ...(bytes[index] ?? []),
      ]),
    ]);
    const settled: SettledRequest = { stored: [], discarded: [] };
    for (const [index, answer] of listIn(reply).entries()) {
      const coin = coins[index];
      if (coin === undefined) break;
      const name = { keyId: coin.keyId, coinCategory: coin.coinCategory };
      const fate = oneOf(FATES, textIn(answer));
      if (fate === 'STORED') settled.stored.push(name);
      else if (fate !== 'HELD') settled.discarded.push({ ...name, reason: fate } satisfies DiscardedCoin);
    }
    return settled;
  }

  async openOnDemand(wish: OnDemandWish, { fresh }: { readonly fresh: boolean }): Promise<PendingRequest> {
    const [address] = checkContacts([wish]) as [ContactAddress];
    const coinCategory = checkCategory('coinCategory', wish.coinCategory);
    const allowLowerCategories = wish.allowLowerCategories === true;
    const open = async (): Promise<PendingRequest> => {
      const { contactId, userId } = address;
      const reply = await this.#stock.run('on-demand-open', [this.#stock.tag(contactId)], (nowMs) => [
        nowMs - LONGEST_ASK_MS,
        this.#stock.tag(userId),
        coinCategory,
        Number(allowLowerCategories),
        randomUUID(),
        Number(fresh),
        this.#stock.nameOf(contactId),
        this.#stock.nameOf(userId),
        ...this.#inUse,
      ]);
      const requestId = textIn(reply);
      this.#inUse.add(requestId);
      return { contactId, userId, coinCategory, allowLowerCategories, requestId, count: 1 };
    };
    const opened = this.#opening.then(open, open);
    this.#opening = opened.catch(() => undefined);
    return opened;
  }

  async settleOnDemand(request: PendingRequest, coin: InventoryCoin | null): Promise<boolean> {
    const asking = this.#stock.tag(request.contactId);
    const [tag, name] = this.#stock.person(coin?.contactId ?? request.contactId);
    const mayBeUsed = await this.#stock.run('on-demand-settle', [asking, tag], () => [
      request.requestId,
      ...(coin === null ? [] : [tag, name, coin.keyId, coin.expiresAt.getTime()]),
    ]);
    return mayBeUsed === 1;
  }

  async askAgain(requests: readonly PendingRequest[]): Promise<void> {
    const tags = requests.map(({ contactId }) => this.#stock.tag(contactId));
    await this.#stock.run('requests-ask-again', tags, (nowMs) => [
      nowMs - LONGEST_ASK_MS,
      ...requests.map(({ requestId }) => requestId),
    ]);
  }

  async release(request: PendingRequest): Promise<void> {
    this.#inUse.delete(request.requestId);
  }

  async abandon({ contactId, requestId }: PendingRequest): Promise<void> {
    const requests = this.#keys.requests(this.#stock.tag(contactId));
    await this.#connection.run('request-abandon', [requests], () => [requestId]);
  }

  #tagged(contacts: readonly ContactAddress[]): TaggedAddress[] {
    return checkContacts(contacts).map(({ contactId, userId }) => ({
      contactId,
      userId,
      tag: this.#stock.tag(contactId),
      userTag: this.#stock.tag(userId),
    }));
  }

  #aboutContacts(
    script: 'top-ups-resume' | 'room-reserve' | 'coins-missing',
    addresses: readonly TaggedAddress[],
    build: (nowMs: number) => readonly Argument[],
  ): Promise<Reply> {
    return this.#stock.run(
      script,
      addresses.map(({ tag }) => tag),
      build,
    );
  }
}

/** The server knows contacts and users by their tags only. */
interface TaggedAddress extends ContactAddress {
  readonly tag: string;
  readonly userTag: string;
}

function toTopUp(addresses: readonly ContactAddress[], [number, requestId, category, count]: Reply[]): PendingRequest {
  const address = addresses[numberIn(number) - 1];
  if (address === undefined) throw new TypeError('The script answered about a contact that it was not asked about.');
  return {
    requestId: textIn(requestId),
    contactId: address.contactId,
    userId: address.userId,
    coinCategory: categoryIn(category),
    count: numberIn(count),
    allowLowerCategories: false,
  };
}
