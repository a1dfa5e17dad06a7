import { COIN_CATEGORY_NAMES, type CoinCategoryName } from '../contract/coin-category';

/**
 * Defines every key name of one device. The namespace is in braces, which in a cluster would keep all keys of a device in
 * one slot. (A cluster is refused at opening, because its redirections are not followed.)
 *
 * A member that ends in Prefix is for keys whose last part only a script knows, because it finds it in an index: the
 * script gets the prefix among its KEYS.
 */
export class Keys {
  readonly #vault: string;
  readonly #inventory: string;
  /** Hash: layout, id, key check and move state. Its name has no version, because every release must find it. */
  readonly device: string;

  constructor(namespace: string) {
    this.device = `device:{${namespace}}`;
    this.#vault = `vault:v1:{${namespace}}`;
    this.#inventory = `inv:v1:{${namespace}}`;
  }

  /** Hash: one private half. */
  vaultKey(keyId: string): string {
    return `${this.vaultKeyPrefix}${keyId}`;
  }

  get vaultKeyPrefix(): string {
    return `${this.#vault}:key:`;
  }

  /** Sorted set: the ids of a category's keys, scored by expiry time. */
  byExpiry(category: CoinCategoryName): string {
    return `${this.#vault}:by-end:${category}`;
  }

  get everyByExpiry(): string[] {
    return COIN_CATEGORY_NAMES.map((category) => this.byExpiry(category));
  }

  /** Sorted set: the ids of all keys, scored by creation time. */
  get byCreation(): string {
    return `${this.#vault}:by-creation`;
  }

  /** Sorted set: the ids of keys destroyed before their expiry, scored by expiry time. */
  get burned(): string {
    return `${this.#vault}:burned`;
  }

  /** Sorted set: id, category and creation time of keys burned within the burn grace, scored by the time of burning. */
  get burnGrace(): string {
    return `${this.#vault}:burn-grace`;
  }

  /** Sorted set: the ids of coins whose upload is not acknowledged, scored by sequence. */
  get outbox(): string {
    return `${this.#vault}:outbox`;
  }

  /** Sorted set: the ids of acknowledged coins whose public half is kept, scored by the vault's expiry time. */
  get published(): string {
    return `${this.#vault}:published`;
  }

  /** Counter: the last sequence that was assigned in the outbox. */
  get outboxSequence(): string {
    return `${this.#vault}:outbox-sequence`;
  }

  /** Hash: one public half, waiting for its upload or kept. */
  outboxCoin(keyId: string): string {
    return `${this.outboxCoinPrefix}${keyId}`;
  }

  get outboxCoinPrefix(): string {
    return `${this.#vault}:outbox-coin:`;
  }

  /**
   * Sorted set: the contacts, scored by last use; +inf for those that have a priority and were never used, and 0 for
   * those of which nothing but devices is known.
   */
  get contacts(): string {
    return `${this.#inventory}:contacts`;
  }

  /** Sorted set: contacts of which only the name is kept, for their used coins, scored by the latest expiry of those. */
  get forgotten(): string {
    return `${this.contacts}:forgotten`;
  }

  /** Sorted set: contact and id of used coins, scored by expiry time. */
  get used(): string {
    return `${this.#inventory}:used`;
  }

  /** Counter: the last sequence that was assigned to a stored coin. */
  get sequence(): string {
    return `${this.#inventory}:sequence`;
  }

  /** Hash: name, priority, last use and known devices of one contact. */
  contact(tag: string): string {
    return `${this.#inventory}:contact:${tag}`;
  }

  /** Hash: the pending requests of a contact, by request id. */
  requests(tag: string): string {
    return `${this.#inventory}:requests:${tag}`;
  }

  /** Prefix of the hashes of a contact's coins; the key id follows. */
  coinPrefix(tag: string): string {
    return `${this.#inventory}:coin:${tag}:`;
  }

  /** Sorted set: sequence, id and device of a contact's coins of one category, scored by expiry time. */
  coinIndex(category: CoinCategoryName, tag: string): string {
    return `${this.#inventory}:stock:${category}:${tag}`;
  }

  /** Returns the KEYS of a vault script; `key` is one entry, or the prefix of all. */
  ofVault(key: string): string[] {
    return [this.byCreation, this.burned, this.burnGrace, key, ...this.everyByExpiry];
  }

  /** Returns the KEYS of a vault script that destroys; `coin` is one public half, or the prefix of all. */
  ofDestruction(key: string, coin: string): string[] {
    return [this.byCreation, this.burned, this.burnGrace, key, this.published, coin, ...this.everyByExpiry];
  }

  /** The KEYS of an outbox script, which finds its entries in an index or gets their ids as arguments. */
  get ofOutbox(): string[] {
    const vault = [this.byCreation, this.burned, this.burnGrace];
    return [...vault, this.outbox, this.published, this.outboxSequence, this.outboxCoinPrefix, this.vaultKeyPrefix];
  }

  /** Returns the KEYS of an inventory script about contacts that the caller names, see contact_at in coin-cache.lua. */
  ofContacts(...tags: string[]): string[] {
    const blocks = tags.flatMap((tag) => [
      this.contact(tag),
      this.requests(tag),
      this.coinPrefix(tag),
      ...COIN_CATEGORY_NAMES.map((category) => this.coinIndex(category, tag)),
    ]);
    return [this.contacts, this.used, this.sequence, ...blocks];
  }

  /** The KEYS of an inventory script that iterates over all contacts, see contact_named in coin-cache.lua. */
  get ofEveryContact(): string[] {
    const indexes = COIN_CATEGORY_NAMES.map((category) => this.coinIndex(category, ''));
    const coins = `${this.#inventory}:coin:`;
    return [this.contacts, this.used, this.sequence, this.contact(''), coins, ...indexes];
  }

  /** The indexes of everything that outlives its pending requests. A device without any of them is empty. */
  get everyIndex(): string[] {
    return [this.byCreation, this.burned, this.outbox, this.published, this.contacts, this.used];
  }

  /** The SCAN patterns that match every key of the device except its own record. */
  get everyPattern(): string[] {
    return [this.patternOf(`${this.#vault}:`), this.patternOf(`${this.#inventory}:`)];
  }

  patternOf(prefix: string): string {
    return `${prefix.replace(/[\\*?[\]]/g, '\\$&')}*`;
  }
}
