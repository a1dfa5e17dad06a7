import { COIN_CATEGORY_NAMES, type CoinCategoryName } from '../contract/coin-category';
import { checkCategory, checkDays, checkUuid, checkVaultKey, DAY_MS } from '../contract/validate';
import {
  BURN_GRACE_MS,
  type NewVaultKey,
  type SecureVault,
  VAULT_LIFETIME_DAYS,
  type VaultEntry,
  type VaultKeyStatus,
} from '../contract/vault';
import { InvalidArgumentError } from '../errors';
import type { Connection } from './connection';
import type { Keys } from './keys';
import { bytesIn, categoryIn, dateIn, listIn, numberIn, oneOf, textIn } from './reply';
import { ttlMs } from './ttl';

const STATUSES: readonly VaultKeyStatus[] = ['ACTIVE', 'BURNED', 'EXPIRED', 'ABSENT'];

/** The place of a category among the indexes, as the scripts count. */
export function placeOf(category: CoinCategoryName): number {
  return COIN_CATEGORY_NAMES.indexOf(category) + 1;
}

export class RedisVault implements SecureVault {
  readonly #connection: Connection;
  readonly #keys: Keys;

  constructor(connection: Connection, keys: Keys) {
    this.#connection = connection;
    this.#keys = keys;
  }

  /** Tombstones past the burn grace shrink to the bare id, those past their end are forgotten. Every write does it too. */
  async tidy(): Promise<void> {
    const keys = [this.#keys.byCreation, this.#keys.burned, this.#keys.burnGrace];
    await this.#connection.run('vault-tidy', keys, (nowMs) => [nowMs, nowMs - BURN_GRACE_MS]);
  }

  async storeKey(key: NewVaultKey): Promise<boolean> {
    const { keyId, coinCategory, expiresAtMs, ...bytes } = checkVaultKey(key, this.#connection.now());
    const secrets = [bytes.encryptionIv, bytes.authTag, bytes.encryptedBlob].map((value) => Buffer.from(value));
    const keys = this.#keys.ofVault(this.#keys.vaultKey(keyId));
    const stored = await this.#connection.run('vault-store', keys, (nowMs) => {
      const ttl = ttlMs(expiresAtMs, nowMs);
      return [nowMs, nowMs - BURN_GRACE_MS, keyId, placeOf(coinCategory), coinCategory, expiresAtMs, ttl, ...secrets];
    });
    return stored === 1;
  }

  async fetchKey(keyId: string): Promise<VaultEntry | null> {
    const id = checkUuid('keyId', keyId);
    const fields = listIn(await this.#connection.call('hmget', this.#keys.vaultKey(id), ...FIELDS));
    if (fields.every((field) => field === null)) {
      await this.#connection.refuseFenced();
      return null;
    }
    const [category, createdAt, expiresAt, iv, authTag, blob] = fields;
    const entry: VaultEntry = {
      keyId: id,
      coinCategory: categoryIn(category),
      encryptedBlob: bytesIn(blob),
      encryptionIv: bytesIn(iv),
      authTag: bytesIn(authTag),
      status: 'ACTIVE',
      createdAt: dateIn(createdAt),
      expiresAt: dateIn(expiresAt),
    };
    return entry.expiresAt.getTime() > this.#connection.now() ? entry : null;
  }

  async burnKey(keyId: string): Promise<boolean> {
    const id = checkUuid('keyId', keyId);
    const keys = this.#keys.ofDestruction(this.#keys.vaultKey(id), this.#keys.outboxCoin(id));
    return (await this.#connection.run('vault-burn', keys, (nowMs) => [nowMs, nowMs - BURN_GRACE_MS, id])) === 1;
  }

  async getStatus(keyId: string): Promise<VaultKeyStatus> {
    const id = checkUuid('keyId', keyId);
    const keys = this.#keys.ofVault(this.#keys.vaultKey(id));
    return oneOf(STATUSES, textIn(await this.#connection.run('vault-status', keys, (nowMs) => [nowMs, id])));
  }

  async countActive(coinCategory: CoinCategoryName): Promise<number> {
    const index = this.#keys.byEnd(checkCategory('coinCategory', coinCategory));
    return numberIn(await this.#connection.run('vault-count', [index, this.#keys.vaultKeyPrefix], (nowMs) => [nowMs]));
  }

  async listKeyIds(coinCategory?: CoinCategoryName): Promise<string[]> {
    const indexes =
      coinCategory === undefined
        ? this.#keys.everyByEnd
        : [this.#keys.byEnd(checkCategory('coinCategory', coinCategory))];
    const keys = [this.#keys.vaultKeyPrefix, ...indexes];
    const ids = await this.#connection.run('vault-list', keys, (nowMs) => [nowMs]);
    return listIn(ids).map(textIn).sort();
  }

  async purgeExpired(
    maxAgeDays: number = VAULT_LIFETIME_DAYS,
    options: { readonly evenIfOwed?: boolean } = {},
  ): Promise<number> {
    const days = checkDays('maxAgeDays', maxAgeDays);
    if (days < VAULT_LIFETIME_DAYS && options?.evenIfOwed !== true) {
      throw new InvalidArgumentError(
        'maxAgeDays',
        `must be ${VAULT_LIFETIME_DAYS} or more, for younger keys may still be written to; { evenIfOwed: true } destroys them`,
      );
    }
    const keys = this.#keys.ofDestruction(this.#keys.vaultKeyPrefix, this.#keys.outboxCoinPrefix);
    const destroyed = await this.#connection.run('vault-purge', keys, (nowMs) => [
      nowMs,
      nowMs - BURN_GRACE_MS,
      nowMs - days * DAY_MS,
    ]);
    return numberIn(destroyed);
  }
}

const FIELDS = ['coin_category', 'created_at', 'expires_at', 'encryption_iv', 'auth_tag', 'encrypted_blob'] as const;
