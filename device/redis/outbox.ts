import { COIN_CATEGORY_NAMES } from '../contract/coin-category';
import type { DroppedCoin, MintedCoin, Outbox, OutboxBatch, OutboxCoin, RefusedCoin } from '../contract/outbox';
import { type CheckedMintedCoin, checkMintedCoin, DAY_MS } from '../contract/validate';
import { DELIVERY_WINDOW_DAYS } from '../contract/vault';
import { InvalidArgumentError } from '../errors';
import type { Argument, Connection } from './connection';
import type { Keys } from './keys';
import { bytesIn, categoryIn, listIn, numberIn, oneOf, type Reply, rowsIn, textIn } from './reply';
import { ttlMs } from './ttl';
import { placeOf } from './vault';

const REFUSALS = ['SAME_KEY_HELD', 'OTHER_KEY_HELD', 'BURNED', 'EXPIRED'] as const;
const DROPS = ['BURNED', 'EXPIRED', 'EPOCH_CHANGED'] as const;

export class RedisOutbox implements Outbox {
  readonly #connection: Connection;
  readonly #keys: Keys;

  constructor(connection: Connection, keys: Keys) {
    this.#connection = connection;
    this.#keys = keys;
  }

  async add(minted: readonly MintedCoin[]): Promise<RefusedCoin[]> {
    if (!Array.isArray(minted)) throw new InvalidArgumentError('minted', 'must be an array');
    const checkedAt = this.#connection.now();
    const coins = minted.map((coin) => withOwnBytes(checkMintedCoin(coin, checkedAt)));
    if (coins.length === 0) return [];
    const { byCreation, burned, burnGrace, outbox, published, outboxSequence, everyByEnd } = this.#keys;
    const entries = coins.flatMap(({ keyId }) => [this.#keys.vaultKey(keyId), this.#keys.outboxCoin(keyId)]);
    const keys = [byCreation, burned, burnGrace, outbox, published, outboxSequence, ...everyByEnd, ...entries];
    const reply = await this.#connection.run('outbox-add', keys, (nowMs) => [
      nowMs,
      COIN_CATEGORY_NAMES.length,
      ...coins.flatMap(({ keyId, coinCategory, expiresAtMs, bytes }): Argument[] => [
        keyId,
        placeOf(coinCategory),
        coinCategory,
        expiresAtMs,
        ttlMs(expiresAtMs, nowMs),
        ...bytes,
      ]),
    ]);
    const reasons = listIn(reply).map(textIn);
    return coins.flatMap(({ keyId, coinCategory }, index) => {
      const reason = reasons[index];
      return reason ? [{ keyId, coinCategory, reason: oneOf(REFUSALS, reason) }] : [];
    });
  }

  async takeBatch(databaseEpoch: string, afterSequence: number, limit: number): Promise<OutboxBatch> {
    const reply = await this.#connection.run('outbox-take', this.#keys.ofOutbox, (nowMs) => [
      nowMs,
      databaseEpoch,
      afterSequence,
      limit,
    ]);
    const [coins, dropped] = listIn(reply);
    return { coins: rowsIn(coins, 6).map(toCoin), dropped: rowsIn(dropped, 3).map(toDropped) };
  }

  async acknowledge(keyIds: readonly string[]): Promise<void> {
    if (keyIds.length === 0) return;
    await this.#connection.run('outbox-acknowledge', this.#keys.ofOutbox, (nowMs) => [nowMs, ...keyIds]);
  }

  async remove(keyIds: readonly string[]): Promise<void> {
    if (keyIds.length === 0) return;
    await this.#connection.run('outbox-remove', this.#keys.ofOutbox, (nowMs) => [nowMs, ...keyIds]);
  }

  async publishAgain(databaseEpoch: string, keyIds: readonly string[]): Promise<string[]> {
    if (keyIds.length === 0) return [];
    const waiting = await this.#connection.run('outbox-put-back', this.#keys.ofOutbox, (nowMs) => [
      nowMs,
      databaseEpoch,
      ...keyIds,
    ]);
    return listIn(waiting).map(textIn);
  }
}

/** In the order of the script's arguments, and copied: the caller may change its own while the call waits. */
function withOwnBytes({ keyId, coinCategory, expiresAtMs, ...coin }: CheckedMintedCoin) {
  const { encryptionIv, authTag, encryptedBlob, publicKey, signature } = coin;
  const bytes = [encryptionIv, authTag, encryptedBlob, publicKey, signature].map((value) => Buffer.from(value));
  return { keyId, coinCategory, expiresAtMs, bytes };
}

function toCoin([sequence, keyId, category, publicKey, signature, vaultEnd]: Reply[]): OutboxCoin {
  return {
    sequence: numberIn(sequence),
    keyId: textIn(keyId),
    coinCategory: categoryIn(category),
    publicKey: bytesIn(publicKey),
    signature: bytesIn(signature),
    expireTime: new Date(numberIn(vaultEnd) - DELIVERY_WINDOW_DAYS * DAY_MS),
  };
}

function toDropped([keyId, category, reason]: Reply[]): DroppedCoin {
  return { keyId: textIn(keyId), coinCategory: categoryIn(category), reason: oneOf(DROPS, textIn(reason)) };
}
