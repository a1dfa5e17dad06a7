import { COIN_CATEGORY_NAMES } from '../contract/coin-category';
import type { DroppedCoin, OutboxBatch, OutboxCoin, RefusedCoin } from '../contract/outbox';
import type { OutboxEngine } from '../contract/storage-engine';
import { type CheckedMintedCoin, DAY_MS } from '../contract/validate';
import { DELIVERY_WINDOW_DAYS } from '../contract/vault';
import type { Argument, Connection } from './connection';
import type { Keys } from './keys';
import { bytesIn, categoryIn, listIn, numberIn, oneOf, type Reply, rowsIn, textIn } from './reply';
import { positionOf } from './vault';

const REFUSALS = ['SAME_KEY_HELD', 'OTHER_KEY_HELD', 'BURNED', 'EXPIRED'] as const;
const DROPS = ['BURNED', 'EXPIRED', 'EPOCH_CHANGED'] as const;

/** The outbox in Redis, with the kept public halves in another index. */
export class RedisOutbox implements OutboxEngine {
  readonly #connection: Connection;
  readonly #keys: Keys;

  constructor(connection: Connection, keys: Keys) {
    this.#connection = connection;
    this.#keys = keys;
  }

  async add(coins: readonly CheckedMintedCoin[]): Promise<RefusedCoin[]> {
    const { byCreation, burned, burnGrace, outbox, published, outboxSequence, everyByExpiry } = this.#keys;
    const entries = coins.flatMap(({ keyId }) => [this.#keys.vaultKey(keyId), this.#keys.outboxCoin(keyId)]);
    const keys = [byCreation, burned, burnGrace, outbox, published, outboxSequence, ...everyByExpiry, ...entries];
    const reply = await this.#connection.run('outbox-add', keys, (nowMs) => [
      nowMs,
      COIN_CATEGORY_NAMES.length,
      ...coins.flatMap(toArguments),
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
    await this.#connection.run('outbox-acknowledge', this.#keys.ofOutbox, (nowMs) => [nowMs, ...keyIds]);
  }

  async remove(keyIds: readonly string[]): Promise<void> {
    await this.#connection.run('outbox-remove', this.#keys.ofOutbox, (nowMs) => [nowMs, ...keyIds]);
  }

  async publishAgain(databaseEpoch: string, keyIds: readonly string[]): Promise<string[]> {
    const waiting = await this.#connection.run('outbox-put-back', this.#keys.ofOutbox, (nowMs) => [
      nowMs,
      databaseEpoch,
      ...keyIds,
    ]);
    return listIn(waiting).map(textIn);
  }
}

/** Returns a coin's part of the arguments of outbox-add. */
function toArguments(coin: CheckedMintedCoin): Argument[] {
  const { keyId, coinCategory, expiresAtMs, encryptionIv, authTag, encryptedBlob, publicKey, signature } = coin;
  const bytes = [encryptionIv, authTag, encryptedBlob, publicKey, signature];
  return [keyId, positionOf(coinCategory), coinCategory, expiresAtMs, ...bytes];
}

function toCoin([sequence, keyId, category, publicKey, signature, vaultExpiresAt]: Reply[]): OutboxCoin {
  return {
    sequence: numberIn(sequence),
    keyId: textIn(keyId),
    coinCategory: categoryIn(category),
    publicKey: bytesIn(publicKey),
    signature: bytesIn(signature),
    expireTime: new Date(numberIn(vaultExpiresAt) - DELIVERY_WINDOW_DAYS * DAY_MS),
  };
}

function toDropped([keyId, category, reason]: Reply[]): DroppedCoin {
  return { keyId: textIn(keyId), coinCategory: categoryIn(category), reason: oneOf(DROPS, textIn(reason)) };
}
