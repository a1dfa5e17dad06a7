import { DAY, MINUTE } from '../../conformance/harness';
import type { BudgetTable, ContactPriority } from '../../contract/budget';
import { type CoinCategoryName, perCategory } from '../../contract/coin-category';
import type {
  CoinName,
  ContactSummary,
  DeviceSelection,
  InventoryCoin,
  SmartInventory,
} from '../../contract/inventory';
import type { BoundOwner, OwnerBinding, StorageOwner } from '../../contract/owner';
import type { ContactAddress, DeviceMissing, PendingRequests } from '../../contract/pending-requests';
import type { NewVaultKey, SecureVault, VaultEntry, VaultKeyStatus } from '../../contract/vault';
import { ClockError, InvalidArgumentError, WrongOwnerError } from '../../errors';
import { textOf } from './text';

// The promises of vault.ts, inventory.ts and owner.ts of device/contract/, kept with plain Maps. The model is
// written from their doc comments, with sizes and times of its own, so that a wrong constant of the library is a
// difference too. Where the contract leaves something open, a comment says what both backends do.

const CATEGORIES: readonly CoinCategoryName[] = ['GOLD', 'SILVER', 'BRONZE'];
/** The bytes of a coin: its public key, its signature and the text of its id. */
const COIN_BYTES: Partial<Record<CoinCategoryName, number>> = {
  GOLD: 1184 + 2420 + 36,
  SILVER: 1184 + 64 + 36,
  BRONZE: 32 + 64 + 36,
};
const VAULT_LIFETIME = 30 * DAY;
const CLOCK_SKEW = 5 * MINUTE;

/**
 * Everything that a storage remembers. Entries are replaced, never changed, so a copy of the Maps is a copy of the
 * state.
 */
class State {
  readonly keys = new Map<string, VaultEntry>();
  /** Ids of private halves that were destroyed before they expired, with their expiry. */
  readonly burned = new Map<string, number>();
  readonly priorities = new Map<string, ContactPriority>();
  readonly lastUsed = new Map<string, number>();
  /** The known devices of contacts, sorted. The unnamed device is an empty text. A contact without any has no entry. */
  readonly devices = new Map<string, readonly string[]>();
  /** Coins by contact, in the order of storing, including expired ones while they are on disk. */
  readonly coins = new Map<string, readonly InventoryCoin[]>();
  /** Contact and id of coins that were selected or evicted, with their expiry. */
  readonly used = new Map<string, number>();
  owner: BoundOwner | null = null;

  copy(): State {
    const copy = new State();
    copy.owner = this.owner;
    for (const [id, entry] of this.keys) copy.keys.set(id, entry);
    for (const [id, expiry] of this.burned) copy.burned.set(id, expiry);
    for (const [contact, priority] of this.priorities) copy.priorities.set(contact, priority);
    for (const [contact, time] of this.lastUsed) copy.lastUsed.set(contact, time);
    for (const [contact, devices] of this.devices) copy.devices.set(contact, devices);
    for (const [contact, coins] of this.coins) copy.coins.set(contact, coins);
    for (const [name, expiry] of this.used) copy.used.set(name, expiry);
    return copy;
  }

  get fingerprint(): string {
    const { keys, burned, priorities, lastUsed, devices, used, owner } = this;
    // The order of storing counts among the coins of one device and category only.
    const coins = [...this.coins].map(([contact, all]): [string, unknown] => [
      contact,
      (devices.get(contact) ?? []).map((device) =>
        CATEGORIES.map((category) => all.filter((coin) => deviceOf(coin) === device && coin.coinCategory === category)),
      ),
    ]);
    return textOf([keys, burned, priorities, lastUsed, devices, used, owner, new Map(coins)]);
  }
}

/**
 * The clock of a storage and of all states that are possible for it: promise 5, "a wrong clock destroys nothing". A
 * clock that differs by more than a day from the latest time that was trusted is not trusted until it is confirmed.
 */
export class ModelClock {
  readonly #device: () => Date;
  #trusted: number;

  constructor(device: () => Date) {
    this.#device = device;
    this.#trusted = device().getTime();
  }

  /** The coin service says that the device's clock is right. */
  confirm(): void {
    this.#trusted = this.#device().getTime();
  }

  /** The storage was replaced by one that last trusted this time. */
  adopt(trusted: number): void {
    this.#trusted = trusted;
  }

  /** The milliseconds by which the device's clock is behind the trusted time, which a clock that was ahead has moved. */
  get behind(): number {
    return Math.max(0, this.#trusted - this.#device().getTime());
  }

  /** Reads the device's clock. Returns true if that moved the trusted time. */
  moves(): boolean {
    const before = this.#trusted;
    this.#read();
    return this.#trusted !== before;
  }

  /** The time by which things are used: what has expired by either time is not. */
  readonly now = (): number => Math.max(this.#read(), this.#trusted);

  /** The time by which things are forgotten: only what has expired by both times is. */
  readonly forget = (): number => Math.min(this.#read(), this.#trusted);

  /** The time until which burned and used ids are remembered. */
  readonly trusted = (): number => {
    this.#read();
    return this.#trusted;
  };

  /** Throws if a wrong clock would destroy something, or with `onlyBehind` give what is stored times of the past. */
  check({ onlyBehind = false } = {}): void {
    const jump = this.#read() - this.#trusted;
    if (jump < -DAY || (jump > DAY && !onlyBehind))
      throw new ClockError(this.#device(), new Date(this.#trusted), 'STORAGE');
  }

  #read(): number {
    const device = this.#device().getTime();
    if (device > this.#trusted && device <= this.#trusted + DAY) this.#trusted = device;
    return device;
  }
}

/** A device storage in memory. */
export class DeviceModel {
  readonly vault: SecureVault;
  readonly inventory: SmartInventory;
  readonly pendingRequests: ModelledRequests;
  readonly owner: OwnerBinding;
  readonly clock: ModelClock;
  readonly #state: State;
  readonly #budgets: BudgetTable;

  constructor(clock: ModelClock, budgets: BudgetTable, state = new State()) {
    this.clock = clock;
    this.#state = state;
    this.#budgets = budgets;
    this.vault = new VaultModel(state, clock);
    const inventory = new InventoryModel(state, clock, budgets);
    this.inventory = inventory;
    this.pendingRequests = inventory;
    this.owner = new OwnerModel(state);
  }

  copy(): DeviceModel {
    return new DeviceModel(this.clock, this.#budgets, this.#state.copy());
  }

  /** A text that is equal for states between which no later call can distinguish. */
  get fingerprint(): string {
    return this.#state.fingerprint;
  }
}

class VaultModel implements SecureVault {
  readonly #state: State;
  readonly #clock: ModelClock;

  constructor(state: State, clock: ModelClock) {
    this.#state = state;
    this.#clock = clock;
  }

  async storeKey(key: NewVaultKey): Promise<boolean> {
    this.#clock.check({ onlyBehind: true });
    const keyId = key.keyId.toLowerCase();
    const now = this.#clock.now();
    const expiry = key.expiresAt?.getTime() ?? now + VAULT_LIFETIME;
    if (expiry <= now || expiry > now + VAULT_LIFETIME + CLOCK_SKEW)
      throw new InvalidArgumentError('expiresAt', 'is wrong');
    if (this.#state.keys.has(keyId) || this.#isBurned(keyId)) return false;
    const times = { createdAt: new Date(now), expiresAt: new Date(expiry) };
    this.#state.keys.set(keyId, { ...key, keyId, status: 'ACTIVE', ...times });
    return true;
  }

  async fetchKey(keyId: string): Promise<VaultEntry | null> {
    const entry = this.#state.keys.get(keyId.toLowerCase());
    return entry !== undefined && this.#isActive(entry) ? entry : null;
  }

  async burnKey(keyId: string): Promise<boolean> {
    return this.#destroy(keyId.toLowerCase());
  }

  async getStatus(keyId: string): Promise<VaultKeyStatus> {
    const entry = this.#state.keys.get(keyId.toLowerCase());
    if (entry !== undefined) return this.#isActive(entry) ? 'ACTIVE' : 'EXPIRED';
    return this.#isBurned(keyId.toLowerCase()) ? 'BURNED' : 'ABSENT';
  }

  async countActive(coinCategory: CoinCategoryName): Promise<number> {
    return (await this.listKeyIds(coinCategory)).length;
  }

  async listKeyIds(coinCategory?: CoinCategoryName): Promise<string[]> {
    return [...this.#state.keys.values()]
      .filter((entry) => this.#isActive(entry) && (coinCategory ?? entry.coinCategory) === entry.coinCategory)
      .map(({ keyId }) => keyId)
      .sort();
  }

  async purgeExpired(maxAgeDays = 30, options?: { readonly evenIfOwed?: boolean }): Promise<number> {
    if (maxAgeDays < 30 && options?.evenIfOwed !== true) throw new InvalidArgumentError('maxAgeDays', 'is too young');
    this.#clock.check();
    const forget = this.#clock.forget();
    const due = [...this.#state.keys.values()].filter(
      (entry) => entry.expiresAt.getTime() <= forget || entry.createdAt.getTime() < forget - maxAgeDays * DAY,
    );
    for (const { keyId } of due) this.#destroy(keyId);
    return due.length;
  }

  #destroy(keyId: string): boolean {
    const entry = this.#state.keys.get(keyId);
    if (entry === undefined) return false;
    this.#state.keys.delete(keyId);
    this.#state.burned.set(keyId, entry.expiresAt.getTime());
    return true;
  }

  #isActive(entry: VaultEntry): boolean {
    return entry.expiresAt.getTime() > this.#clock.now();
  }

  #isBurned(keyId: string): boolean {
    return (this.#state.burned.get(keyId) ?? Number.NEGATIVE_INFINITY) > this.#clock.trusted();
  }
}

/** The part of PendingRequests that has no ids of its own. No sequence of calls has pending requests. */
export type ModelledRequests = Pick<PendingRequests, 'learnDevices' | 'missingCoins'>;

function deviceOf({ deviceId = '' }: InventoryCoin): string {
  return deviceId;
}

function named(device: string): { readonly deviceId?: string } {
  return device === '' ? {} : { deviceId: device };
}

class InventoryModel implements SmartInventory, ModelledRequests {
  readonly #state: State;
  readonly #clock: ModelClock;
  readonly #budgets: BudgetTable;

  constructor(state: State, clock: ModelClock, budgets: BudgetTable) {
    this.#state = state;
    this.#clock = clock;
    this.#budgets = budgets;
  }

  async storeKey(given: InventoryCoin): Promise<boolean> {
    const device = deviceOf(given).toLowerCase();
    const { deviceId: _, ...rest } = given;
    const coin = { ...rest, ...named(device), keyId: given.keyId.toLowerCase() };
    const { contactId, keyId, coinCategory } = coin;
    if (!this.#isUsable(coin)) throw new InvalidArgumentError('expiresAt', 'is over');
    // An expired coin of the same id does not matter.
    if (this.#usable(contactId).some((held) => held.keyId === keyId)) return false;
    if ((this.#state.used.get(`${contactId} ${keyId}`) ?? Number.NEGATIVE_INFINITY) > this.#clock.trusted())
      return false;
    if (this.#usableOf(contactId, device, coinCategory).length >= this.#budget(contactId)[coinCategory]) return false;
    const kept = this.#kept(contactId).filter((other) => other.keyId !== keyId);
    this.#state.coins.set(contactId, [...kept, coin]);
    this.#know(contactId, [...this.#devices(contactId), device]);
    this.#state.lastUsed.set(contactId, this.#clock.now());
    return true;
  }

  async selectCoin(
    contactId: string,
    desired: CoinCategoryName,
    { deviceId = '' }: { readonly deviceId?: string } = {},
  ): Promise<InventoryCoin | null> {
    return this.#select(contactId, deviceId.toLowerCase(), desired);
  }

  async selectCoins(contactId: string, desired: CoinCategoryName): Promise<DeviceSelection[]> {
    return this.#devices(contactId).map((device) => ({
      ...named(device),
      coin: this.#select(contactId, device, desired),
    }));
  }

  async learnDevices(contactId: string, deviceIds: readonly string[]): Promise<{ removed: CoinName[] }> {
    const learned = deviceIds.map((device) => device.toLowerCase());
    const coins = this.#state.coins.get(contactId) ?? [];
    const gone = coins.filter((coin) => !learned.includes(deviceOf(coin)));
    for (const coin of gone) this.#takeOut(coin);
    this.#know(contactId, learned);
    return { removed: gone.map(({ keyId, coinCategory }) => ({ keyId, coinCategory })) };
  }

  async missingCoins(contacts: readonly ContactAddress[]): Promise<Map<string, DeviceMissing[]>> {
    const lacking = (contactId: string, device: string, category: CoinCategoryName) =>
      Math.max(0, this.#budget(contactId)[category] - this.#usableOf(contactId, device, category).length);
    return new Map(
      contacts.map(({ contactId }) => [
        contactId,
        this.#devices(contactId).map((device) => ({
          ...named(device),
          missing: perCategory((category) => lacking(contactId, device, category)),
        })),
      ]),
    );
  }

  #select(contactId: string, device: string, desired: CoinCategoryName): InventoryCoin | null {
    for (const category of CATEGORIES.slice(CATEGORIES.indexOf(desired))) {
      // Sorting is stable: coins that expire together stay in the order of storing.
      const [next] = this.#usableOf(contactId, device, category).sort(
        (a, b) => a.expiresAt.getTime() - b.expiresAt.getTime(),
      );
      if (next === undefined) continue;
      this.#takeOut(next);
      this.#state.lastUsed.set(contactId, this.#clock.now());
      return next;
    }
    return null;
  }

  async getPriority(contactId: string): Promise<ContactPriority> {
    return this.#priority(contactId);
  }

  async setPriority(contactId: string, priority: ContactPriority): Promise<{ evicted: CoinName[] }> {
    this.#state.priorities.set(contactId, priority);
    // Reported by device and category, the best first; that order is not promised, but the same on both backends.
    const surplus = this.#devices(contactId).flatMap((device) =>
      CATEGORIES.flatMap((category) =>
        this.#usableOf(contactId, device, category).slice(this.#budget(contactId)[category]).reverse(),
      ),
    );
    for (const coin of surplus) this.#takeOut(coin);
    return { evicted: surplus.map(({ keyId, coinCategory }) => ({ keyId, coinCategory })) };
  }

  async getSummary(contactId?: string): Promise<ContactSummary[]> {
    const contactIds = contactId === undefined ? await this.listContacts() : [contactId];
    return contactIds.map((id) => {
      const lastUsedAt = this.#state.lastUsed.get(id);
      const countsOf = (coins: readonly InventoryCoin[]) =>
        perCategory((category) => coins.filter(({ coinCategory }) => coinCategory === category).length);
      return {
        contactId: id,
        priority: this.#priority(id),
        counts: countsOf(this.#usable(id)),
        devices: this.#devices(id).map((device) => ({
          ...named(device),
          counts: countsOf(this.#usableOf(id, device)),
        })),
        lastUsedAt: lastUsedAt === undefined ? null : new Date(lastUsedAt),
      };
    });
  }

  async listContacts(): Promise<string[]> {
    const { priorities, lastUsed, devices } = this.#state;
    return [...new Set([...priorities.keys(), ...lastUsed.keys(), ...devices.keys()])].sort();
  }

  async getTotalStorageBytes(): Promise<number> {
    const coins = [...this.#state.coins.values()].flat();
    return coins.reduce((sum, { coinCategory }) => sum + (COIN_BYTES[coinCategory] ?? Number.NaN), 0);
  }

  async garbageCollect(inactiveDays = 30): Promise<number> {
    this.#clock.check();
    let removed = 0;
    for (const [contactId, lastUsed] of [...this.#state.lastUsed]) {
      if (lastUsed > this.#clock.forget() - inactiveDays * DAY) continue;
      removed += this.#state.coins.get(contactId)?.length ?? 0;
      this.#state.coins.delete(contactId);
      if (!this.#state.priorities.has(contactId)) this.#state.lastUsed.delete(contactId);
    }
    for (const contactId of [...this.#state.devices.keys()]) {
      const isNamed = this.#state.priorities.has(contactId) || this.#state.lastUsed.has(contactId);
      if (!isNamed) this.#state.devices.delete(contactId);
    }
    for (const contactId of this.#state.coins.keys()) this.#state.coins.set(contactId, this.#kept(contactId));
    return removed;
  }

  async forgetContact(contactId: string): Promise<number> {
    this.#state.priorities.delete(contactId);
    this.#state.lastUsed.delete(contactId);
    this.#state.devices.delete(contactId);
    return this.#drop(contactId);
  }

  async dropCachedCoins(): Promise<number> {
    return [...this.#state.coins.keys()].reduce((sum, contactId) => sum + this.#drop(contactId), 0);
  }

  /** Takes out the contact's coins, including expired ones. */
  #drop(contactId: string): number {
    const coins = this.#state.coins.get(contactId) ?? [];
    for (const coin of coins) this.#takeOut(coin);
    this.#state.coins.delete(contactId);
    return coins.length;
  }

  /** Returns the coins that have not expired, in the order of storing. */
  #usable(contactId: string, category?: CoinCategoryName): InventoryCoin[] {
    const coins = this.#state.coins.get(contactId) ?? [];
    return coins.filter((coin) => this.#isUsable(coin) && (category ?? coin.coinCategory) === coin.coinCategory);
  }

  #usableOf(contactId: string, device: string, category?: CoinCategoryName): InventoryCoin[] {
    return this.#usable(contactId, category).filter((coin) => deviceOf(coin) === device);
  }

  #devices(contactId: string): readonly string[] {
    return this.#state.devices.get(contactId) ?? [];
  }

  #know(contactId: string, devices: readonly string[]): void {
    if (devices.length > 0) this.#state.devices.set(contactId, [...new Set(devices)].sort());
    else this.#state.devices.delete(contactId);
  }

  /** Returns the coins that have not expired by both times. */
  #kept(contactId: string): InventoryCoin[] {
    const forget = this.#clock.forget();
    return (this.#state.coins.get(contactId) ?? []).filter(({ expiresAt }) => expiresAt.getTime() > forget);
  }

  #isUsable(coin: InventoryCoin): boolean {
    return coin.expiresAt.getTime() > this.#clock.now();
  }

  #takeOut(coin: InventoryCoin): void {
    const coins = this.#state.coins.get(coin.contactId) ?? [];
    this.#state.coins.set(
      coin.contactId,
      coins.filter((other) => other !== coin),
    );
    this.#state.used.set(`${coin.contactId} ${coin.keyId}`, coin.expiresAt.getTime());
  }

  #priority(contactId: string): ContactPriority {
    return this.#state.priorities.get(contactId) ?? 'STRANGER';
  }

  #budget(contactId: string) {
    return this.#budgets[this.#priority(contactId)];
  }
}

class OwnerModel implements OwnerBinding {
  readonly #state: State;

  constructor(state: State) {
    this.#state = state;
  }

  async read(): Promise<BoundOwner | null> {
    return this.#state.owner;
  }

  async bind(given: StorageOwner): Promise<void> {
    await this.check(given);
    const userId = given.userId.toLowerCase();
    const deviceId = this.#state.owner?.deviceId ?? given.deviceId;
    this.#state.owner = { ...this.#state.owner, userId, ...(deviceId !== undefined && { deviceId }) };
  }

  async check(given: StorageOwner): Promise<void> {
    const { owner } = this.#state;
    if (owner === null) return;
    const isOther = [owner.deviceId, given.deviceId].includes(undefined) ? false : owner.deviceId !== given.deviceId;
    if (isOther || owner.userId !== given.userId.toLowerCase()) throw new WrongOwnerError(owner, given);
  }

  async recordRemoval(): Promise<void> {
    if (this.#state.owner !== null) this.#state.owner = { ...this.#state.owner, isRemoved: true };
  }
}
