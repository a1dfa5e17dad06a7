import { COIN_CATEGORY_NAMES, type CoinCategoryName } from '../contract/coin-category';
import type { VaultEngine } from '../contract/storage-engine';
import { type CheckedVaultKey, DAY_MS } from '../contract/validate';
import { BURN_GRACE_MS, PURGE_BATCH, type VaultEntry, type VaultKeyStatus } from '../contract/vault';
import type { Connection } from './connection';
import type { Keys } from './keys';
import { bytesIn, categoryIn, dateIn, listIn, numberIn, oneOf, textIn } from './reply';

const STATUSES: readonly VaultKeyStatus[] = ['ACTIVE', 'BURNED', 'EXPIRED', 'ABSENT'];

/** Returns the position of a category among the indexes. Scripts count from 1. */
export function positionOf(category: CoinCategoryName): number {
  return COIN_CATEGORY_NAMES.indexOf(category) + 1;
}

/** The vault in Redis. Every call is one script or one command. */
export class RedisVault implements VaultEngine {
  readonly #connection: Connection;
  readonly #keys: Keys;

  constructor(connection: Connection, keys: Keys) {
    this.#connection = connection;
    this.#keys = keys;
  }

  /** Shrinks tombstones past the burn grace to the bare id, and forgets expired ones. Every write does so as well. */
  async tidy(): Promise<void> {
    const keys = [this.#keys.byCreation, this.#keys.burned, this.#keys.burnGrace];
    await this.#connection.run('vault-tidy', keys, (nowMs) => [nowMs, nowMs - BURN_GRACE_MS]);
  }

  async storeKey(key: CheckedVaultKey): Promise<boolean> {
    const { keyId, coinCategory, expiresAtMs, encryptionIv, authTag, encryptedBlob } = key;
    const secrets = [encryptionIv, authTag, encryptedBlob];
    const keys = this.#keys.ofVault(this.#keys.vaultKey(keyId));
    const stored = await this.#connection.run('vault-store', keys, (nowMs) => [
      nowMs,
      nowMs - BURN_GRACE_MS,
      keyId,
      positionOf(coinCategory),
      coinCategory,
      expiresAtMs,
      ...secrets,
    ]);
    return stored === 1;
  }

  async fetchKey(keyId: string): Promise<VaultEntry | null> {
    const fields = listIn(await this.#connection.call('hmget', this.#keys.vaultKey(keyId), ...FIELDS));
    if (fields.every((field) => field === null)) {
      await this.#connection.refuseMoved();
      return null;
    }
    const [category, createdAt, expiresAt, iv, authTag, blob] = fields;
    const entry: VaultEntry = {
      keyId,
      coinCategory: categoryIn(category),
      encryptedBlob: bytesIn(blob),
      encryptionIv: bytesIn(iv),
      authTag: bytesIn(authTag),
      status: 'ACTIVE',
      createdAt: dateIn(createdAt),
      expiresAt: dateIn(expiresAt),
    };
    return entry.expiresAt.getTime() > this.#connection.times().nowMs ? entry : null;
  }

  async burnKey(keyId: string): Promise<boolean> {
    const keys = this.#keys.ofDestruction(this.#keys.vaultKey(keyId), this.#keys.outboxCoin(keyId));
    return (await this.#connection.run('vault-burn', keys, (nowMs) => [nowMs, nowMs - BURN_GRACE_MS, keyId])) === 1;
  }

  async getStatus(keyId: string): Promise<VaultKeyStatus> {
    const keys = this.#keys.ofVault(this.#keys.vaultKey(keyId));
    return oneOf(STATUSES, textIn(await this.#connection.run('vault-status', keys, (nowMs) => [nowMs, keyId])));
  }

  async countActive(coinCategory: CoinCategoryName): Promise<number> {
    const index = this.#keys.byExpiry(coinCategory);
    return numberIn(await this.#connection.run('vault-count', [index, this.#keys.vaultKeyPrefix], (nowMs) => [nowMs]));
  }

  async listKeyIds(categories: readonly CoinCategoryName[]): Promise<string[]> {
    const keys = [this.#keys.vaultKeyPrefix, ...categories.map((category) => this.#keys.byExpiry(category))];
    const ids = await this.#connection.run('vault-list', keys, (nowMs) => [nowMs]);
    return listIn(ids).map(textIn).sort();
  }

  async purgeExpired(maxAgeDays: number): Promise<number> {
    const keys = this.#keys.ofDestruction(this.#keys.vaultKeyPrefix, this.#keys.outboxCoinPrefix);
    for (let purged = 0; ; ) {
      const reply = await this.#connection.run('vault-purge', keys, (nowMs, forgetMs) => [
        nowMs,
        nowMs - BURN_GRACE_MS,
        forgetMs - maxAgeDays * DAY_MS,
        PURGE_BATCH,
      ]);
      const [destroyed, found] = listIn(reply).map(numberIn);
      purged += destroyed ?? 0;
      if ((found ?? 0) < PURGE_BATCH) return purged;
    }
  }
}

const FIELDS = ['coin_category', 'created_at', 'expires_at', 'encryption_iv', 'auth_tag', 'encrypted_blob'] as const;
