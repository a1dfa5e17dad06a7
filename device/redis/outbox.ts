import { COIN_CATEGORY_NAMES } from '../contract/coin-category';
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
import type { Argument, Connection } from './connection';
import type { Keys } from './keys';
import { bytesIn, categoryIn, listIn, numberIn, oneOf, type Reply, rowsIn, textIn } from './reply';
import { positionOf } from './vault';

const REFUSALS = ['SENT_BEFORE', 'OTHER_KEY_HELD', 'BURNED', ...FINAL_OUTCOMES] as const;
const DROPS = ['BURNED', 'EXPIRED', 'EPOCH_CHANGED'] as const;

/** The outbox in Redis, with the kept public halves and the final outcomes in another index. */
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

  async takeBatch(
    databaseEpoch: string,
    afterSequence: number,
    limit: number,
    room?: CategoryRoom,
  ): Promise<OutboxBatch> {
    const places = room === undefined ? [] : COIN_CATEGORY_NAMES.flatMap((name) => [name, room[name] ?? UNKNOWN_ROOM]);
    const reply = await this.#connection.run('outbox-take', this.#keys.ofOutbox, (nowMs) => [
      nowMs,
      databaseEpoch,
      afterSequence,
      limit,
      MAX_EXAMINED,
      ...places,
    ]);
    const [coins, dropped, held, last] = listIn(reply);
    const lastSequence = numberIn(last);
    return {
      coins: rowsIn(coins, 6).map(toCoin),
      dropped: rowsIn(dropped, 3).map(toDropped),
      held: rowsIn(held, 2).map(toName),
      lastSequence: lastSequence === END ? null : lastSequence,
    };
  }

  async acknowledge(keyIds: readonly string[]): Promise<void> {
    await this.#connection.run('outbox-acknowledge', this.#keys.ofOutbox, (nowMs) => [nowMs, ...keyIds]);
  }

  async remove(keyIds: readonly string[], outcome: FinalOutcome): Promise<void> {
    await this.#connection.run('outbox-remove', this.#keys.ofOutbox, (nowMs) => [nowMs, outcome, ...keyIds]);
  }

  async conflictsAmong(keyIds: readonly string[]): Promise<string[]> {
    const ids = await this.#connection.run('outbox-conflicts', this.#keys.ofOutbox, (nowMs) => [nowMs, ...keyIds]);
    return listIn(ids).map(textIn);
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

/** Stand for an absent room in the arguments, and for the end of the outbox in the reply of outbox-take. */
const UNKNOWN_ROOM = -1;
const END = -1;

/** Returns a coin's part of the arguments of outbox-add. */
function toArguments(coin: CheckedMintedCoin): Argument[] {
  const { keyId, coinCategory, expiresAtMs, encryptionIv, authTag, encryptedBlob, publicKey, signature } = coin;
  const bytes = [encryptionIv, authTag, encryptedBlob, publicKey, signature];
  const expiry = [expiresAtMs, Number(coin.isExpiryGiven)];
  return [keyId, positionOf(coinCategory), coinCategory, ...expiry, ...bytes];
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
  return { ...toName([keyId, category]), reason: oneOf(DROPS, textIn(reason)) };
}

function toName([keyId, category]: (Reply | undefined)[]): CoinName {
  return { keyId: textIn(keyId), coinCategory: categoryIn(category) };
}
