import { randomUUID } from 'node:crypto';
import { type BudgetTable, CONTACT_PRIORITIES } from '../contract/budget';
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
  type SettledRequest,
} from '../contract/pending-requests';
import type { PendingRequestsEngine } from '../contract/storage-engine';
import { type CheckedInventoryCoin, ofDevice } from '../contract/validate';
import { type CoinCache, inOrderOfDevices } from './coin-cache';
import type { Argument, Connection } from './connection';
import type { Keys } from './keys';
import { categoryIn, listIn, numberIn, oneOf, type Reply, rowsIn, textIn } from './reply';

const FATES = ['STORED', 'HELD', 'EXPIRED', 'ALREADY_USED', 'OVER_BUDGET', 'DEVICE_REMOVED'] as const;

/** The pending requests in Redis, one hash per contact. The field `asking` of a request is the count of attempts. */
export class RedisPendingRequests implements PendingRequestsEngine {
  readonly #connection: Connection;
  readonly #keys: Keys;
  readonly #cache: CoinCache;
  /** The maximum number of requests that reserve the whole budget of one device. */
  readonly #maxRequests: number;
  /** The on-demand requests that calls of this process are using. */
  readonly #inUse = new Set<string>();
  /**
   * The latest call of openOnDemand. Calls run one after the other, because each must know the ids in use before it.
   */
  #opening: Promise<unknown> = Promise.resolve();

  constructor(connection: Connection, keys: Keys, cache: CoinCache, budgets: BudgetTable) {
    this.#connection = connection;
    this.#keys = keys;
    this.#cache = cache;
    const requestsOf = (category: CoinCategoryName) =>
      Math.max(...CONTACT_PRIORITIES.map((priority) => Math.ceil(budgets[priority][category] / MAX_REQUEST_COINS)));
    this.#maxRequests = COIN_CATEGORY_NAMES.reduce((sum, category) => sum + requestsOf(category), 0);
  }

  async resumeTopUps(contacts: readonly ContactAddress[]): Promise<PendingRequest[]> {
    const addresses = this.#tagged(contacts);
    const reply = await this.#aboutContacts('top-ups-resume', addresses, (nowMs) => [
      nowMs - MAX_ATTEMPT_MS,
      ...addresses.flatMap(({ tag, userTag }) => [tag, userTag]),
    ]);
    return this.#topUpsIn(addresses, reply);
  }

  async reserveRoom(contacts: readonly ContactAddress[]): Promise<PendingRequest[]> {
    const addresses = this.#tagged(contacts);
    const named = addresses.flatMap(({ tag, userTag, contactId, userId }) => [
      tag,
      userTag,
      this.#cache.nameOf(contactId),
      this.#cache.nameOf(userId),
    ]);
    // Enough for one device of each contact. Only the server knows how many there are.
    for (let ids = this.#maxRequests * addresses.length; ; ) {
      const requestIds = Array.from({ length: ids }, () => randomUUID());
      const reply = await this.#aboutContacts('room-reserve', addresses, () => [
        MAX_REQUEST_COINS,
        ids,
        ...requestIds,
        ...named,
      ]);
      if (typeof reply !== 'number') return this.#topUpsIn(addresses, reply);
      ids = reply;
    }
  }

  async learnDevices(contactId: string, deviceIds: readonly string[]): Promise<{ removed: CoinName[] }> {
    const [contactTag, contactName] = this.#cache.tagAndName(contactId);
    const devices = deviceIds.flatMap((deviceId) => this.#cache.deviceTagAndName(deviceId));
    const reply = await this.#cache.run('devices-learn', [contactTag], () => [contactTag, contactName, ...devices]);
    const removed = rowsIn(reply, 4).map(([keyId, category, tag, name]) => ({
      deviceId: this.#cache.deviceIn(tag, name),
      coin: { keyId: textIn(keyId), coinCategory: categoryIn(category) },
    }));
    return { removed: inOrderOfDevices(removed).map(({ coin }) => coin) };
  }

  async missingCoins(contacts: readonly ContactAddress[]): Promise<Map<string, DeviceMissing[]>> {
    const addresses = this.#tagged(contacts);
    const reply = await this.#aboutContacts('coins-missing', addresses, () => addresses.map(({ tag }) => tag));
    const lacking = rowsIn(reply, 3 + COIN_CATEGORY_NAMES.length).map(([number, tag, name, ...counts]) => ({
      contactId: addresses[numberIn(number) - 1]?.contactId,
      deviceId: this.#cache.deviceIn(tag, name),
      missing: perCategory((category) => numberIn(counts[COIN_CATEGORY_NAMES.indexOf(category)])),
    }));
    return new Map(
      addresses.map(({ contactId }) => [
        contactId,
        inOrderOfDevices(lacking.filter((row) => row.contactId === contactId)).map(({ deviceId, missing }) => ({
          ...ofDevice(deviceId),
          missing,
        })),
      ]),
    );
  }

  async settleTopUp(request: PendingRequest, coins: readonly CheckedInventoryCoin[]): Promise<SettledRequest> {
    const contactIds = [...new Set([request.contactId, ...coins.map(({ contactId }) => contactId)])];
    const named = contactIds.map((contactId) => this.#cache.tagAndName(contactId));
    const tags = named.map(([tag]) => tag);
    const reply = await this.#cache.run('top-up-settle', tags, () => [
      request.requestId,
      named.length,
      ...named.flat(),
      ...coins.flatMap(
        ({ contactId, deviceId, keyId, coinCategory, expiresAtMs, publicKey, signature }): Argument[] => [
          contactIds.indexOf(contactId) + 1,
          keyId,
          coinCategory,
          expiresAtMs,
          publicKey,
          signature,
          ...this.#cache.deviceTagAndName(deviceId),
        ],
      ),
    ]);
    const settled: SettledRequest = { stored: [], discarded: [] };
    for (const [index, fateText] of listIn(reply).entries()) {
      const coin = coins[index];
      if (coin === undefined) break;
      const name = { keyId: coin.keyId, coinCategory: coin.coinCategory };
      const fate = oneOf(FATES, textIn(fateText));
      if (fate === 'STORED') settled.stored.push(name);
      else if (fate !== 'HELD') settled.discarded.push({ ...name, reason: fate } satisfies DiscardedCoin);
    }
    return settled;
  }

  async discard(contactId: string, coins: readonly CheckedInventoryCoin[]): Promise<void> {
    const [tag, name] = this.#cache.tagAndName(contactId);
    await this.#cache.run('coins-discard', [tag], () => [
      tag,
      name,
      ...coins.flatMap(({ keyId, expiresAtMs }) => [keyId, expiresAtMs]),
    ]);
  }

  async openOnDemand(wish: OnDemandWish, { fresh }: { readonly fresh: boolean }): Promise<PendingRequest> {
    const { contactId, userId, deviceIds, coinCategory, allowLowerCategories } = wish;
    const devices = deviceIds?.map((deviceId) => this.#cache.deviceTagAndName(deviceId));
    const open = async (): Promise<PendingRequest> => {
      const newId = randomUUID();
      const reply = await this.#cache.run('on-demand-open', [this.#cache.tag(contactId)], (nowMs) => [
        nowMs - MAX_ATTEMPT_MS,
        this.#cache.tag(userId),
        coinCategory,
        Number(allowLowerCategories),
        newId,
        Number(fresh),
        this.#cache.nameOf(contactId),
        this.#cache.nameOf(userId),
        devices === undefined ? '' : JSON.stringify(devices.map(([tag]) => tag)),
        devices === undefined ? '' : JSON.stringify(devices.map(([, name]) => name)),
        ...this.#inUse,
      ]);
      const requestId = textIn(reply);
      this.#inUse.add(requestId);
      return { ...wish, requestId, count: 1, ...(requestId !== newId && { isResumed: true }) };
    };
    const opened = this.#opening.then(open, open);
    this.#opening = opened.catch(() => undefined);
    return opened;
  }

  async settleOnDemand(
    { contactId, requestId }: PendingRequest,
    coins: readonly CheckedInventoryCoin[],
  ): Promise<boolean[]> {
    const [tag, name] = this.#cache.tagAndName(contactId);
    const answers = await this.#cache.run('on-demand-settle', [tag], () => [
      requestId,
      tag,
      name,
      ...coins.flatMap(({ keyId, expiresAtMs }) => [keyId, expiresAtMs]),
    ]);
    return listIn(answers).map((mayBeUsed) => mayBeUsed === 1);
  }

  async recordAttempts(requests: readonly PendingRequest[]): Promise<void> {
    const tags = requests.map(({ contactId }) => this.#cache.tag(contactId));
    await this.#cache.run('requests-attempt', tags, (nowMs) => [
      nowMs - MAX_ATTEMPT_MS,
      ...requests.map(({ requestId }) => requestId),
    ]);
  }

  async release(request: PendingRequest): Promise<void> {
    this.#inUse.delete(request.requestId);
  }

  async abandon({ contactId, requestId }: PendingRequest): Promise<void> {
    const requests = this.#keys.requests(this.#cache.tag(contactId));
    await this.#connection.run('request-abandon', [requests], () => [requestId]);
  }

  /** Reads top-ups from a script's reply, in the order of the contacts and of their devices' ids. */
  #topUpsIn(addresses: readonly ContactAddress[], reply: Reply): PendingRequest[] {
    const topUps = rowsIn(reply, 6).map(([number, requestId, category, count, tag, name]) => {
      const index = numberIn(number) - 1;
      const { contactId, userId } = addresses[index] ?? {};
      if (contactId === undefined || userId === undefined)
        throw new TypeError('The script replied about a contact that was not among its arguments.');
      const deviceId = this.#cache.deviceIn(tag, name);
      const coins = { coinCategory: categoryIn(category), count: numberIn(count), allowLowerCategories: false };
      const request = { requestId: textIn(requestId), contactId, userId, ...ofDevice(deviceId), ...coins };
      return { index, deviceId, request };
    });
    return inOrderOfDevices(topUps)
      .sort((a, b) => a.index - b.index)
      .map(({ request }) => request);
  }

  #tagged(contacts: readonly ContactAddress[]): TaggedAddress[] {
    return contacts.map(({ contactId, userId }) => ({
      contactId,
      userId,
      tag: this.#cache.tag(contactId),
      userTag: this.#cache.tag(userId),
    }));
  }

  #aboutContacts(
    script: 'top-ups-resume' | 'room-reserve' | 'coins-missing',
    addresses: readonly TaggedAddress[],
    build: (nowMs: number) => readonly Argument[],
  ): Promise<Reply> {
    return this.#cache.run(
      script,
      addresses.map(({ tag }) => tag),
      build,
    );
  }
}

/** An address with the tags by which the server knows contact and user. */
interface TaggedAddress extends ContactAddress {
  readonly tag: string;
  readonly userTag: string;
}
