import { COIN_CATEGORY_NAMES, type CoinCategoryName } from '../contract/coin-category';

/**
 * Every key name of one device, in one place. The namespace stands in braces: a cluster keeps all keys of a device in
 * one slot, so that one script may change all of them.
 *
 * A method that ends in Prefix names keys whose last part only a script knows, because it finds it in an index: the
 * script gets the prefix among its KEYS.
 */
export class Keys {
  readonly #vault: string;
  readonly #inventory: string;
  /** Layout and key check. Its own name has no version: every release must find it. */
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

  /** Sorted set: the ids of a category's keys by their end. */
  byEnd(category: CoinCategoryName): string {
    return `${this.#vault}:by-end:${category}`;
  }

  get everyByEnd(): string[] {
    return COIN_CATEGORY_NAMES.map((category) => this.byEnd(category));
  }

  /** Sorted set: the ids of all keys by the time they were stored. */
  get byCreation(): string {
    return `${this.#vault}:by-creation`;
  }

  /** Sorted set: ids destroyed before their end, by that end. */
  get burned(): string {
    return `${this.#vault}:burned`;
  }

  /** Sorted set: category and times of keys burned within the burn grace, by the time of burning. */
  get burnGrace(): string {
    return `${this.#vault}:burn-grace`;
  }

  /** Sorted set: ids of coins whose upload is not acknowledged, by their sequence. */
  get outbox(): string {
    return `${this.#vault}:outbox`;
  }

  /** Sorted set: ids of acknowledged coins whose public half is kept, by the vault's end. */
  get published(): string {
    return `${this.#vault}:published`;
  }

  /** Counter: the last sequence given. */
  get outboxSequence(): string {
    return `${this.#vault}:outbox-sequence`;
  }

  /** Hash: one public half, on its way or kept. */
  outboxCoin(keyId: string): string {
    return `${this.outboxCoinPrefix}${keyId}`;
  }

  get outboxCoinPrefix(): string {
    return `${this.#vault}:outbox-coin:`;
  }

  /** Sorted set: the contacts by their last use; those without one at +inf. */
  get contacts(): string {
    return `${this.#inventory}:contacts`;
  }

  /** Sorted set: contact and id of coins that were used, by the coin's end. */
  get used(): string {
    return `${this.#inventory}:used`;
  }

  /** Counter: the order of storing coins. */
  get sequence(): string {
    return `${this.#inventory}:sequence`;
  }

  /** Hash: name, priority and last use of a contact. */
  contact(tag: string): string {
    return `${this.#inventory}:contact:${tag}`;
  }

  /** Hash: the open requests of a contact, by request id. */
  requests(tag: string): string {
    return `${this.#inventory}:requests:${tag}`;
  }

  /** Hashes of a contact's coins: this and the key id. */
  coinPrefix(tag: string): string {
    return `${this.#inventory}:coin:${tag}:`;
  }

  /** Sorted set: sequence and id of a contact's coins of one category, by their end. */
  stock(category: CoinCategoryName, tag: string): string {
    return `${this.#inventory}:stock:${category}:${tag}`;
  }

  /** The KEYS of a vault script; `key` is one entry, or the prefix of all. */
  ofVault(key: string): string[] {
    return [this.byCreation, this.burned, this.burnGrace, key, ...this.everyByEnd];
  }

  /** The KEYS of a vault script that destroys; `coin` is one public half, or the prefix of all. */
  ofDestruction(key: string, coin: string): string[] {
    return [this.byCreation, this.burned, this.burnGrace, key, this.published, coin, ...this.everyByEnd];
  }

  /** The KEYS of an outbox script, whose entries the script finds in an index or is told by their ids. */
  get ofOutbox(): string[] {
    const vault = [this.byCreation, this.burned, this.burnGrace];
    return [...vault, this.outbox, this.published, this.outboxSequence, this.outboxCoinPrefix, this.vaultKeyPrefix];
  }

  /** The KEYS of an inventory script about contacts that the caller names, see contact_at in stock.lua. */
  ofContacts(...tags: string[]): string[] {
    const blocks = tags.flatMap((tag) => [
      this.contact(tag),
      this.requests(tag),
      this.coinPrefix(tag),
      ...COIN_CATEGORY_NAMES.map((category) => this.stock(category, tag)),
    ]);
    return [this.contacts, this.used, this.sequence, ...blocks];
  }

  /** The KEYS of an inventory script that walks the contacts, see contact_named in stock.lua. */
  get ofEveryContact(): string[] {
    const stocks = COIN_CATEGORY_NAMES.map((category) => this.stock(category, ''));
    const coins = `${this.#inventory}:coin:`;
    return [this.contacts, this.used, this.sequence, this.contact(''), coins, ...stocks];
  }

  /** Patterns of SCAN that match every key of the device but its own record. */
  get everyPattern(): string[] {
    return [this.patternOf(`${this.#vault}:`), this.patternOf(`${this.#inventory}:`)];
  }

  patternOf(prefix: string): string {
    return `${prefix.replace(/[\\*?[\]]/g, '\\$&')}*`;
  }
}
