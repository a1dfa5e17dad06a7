import { DAY, type Fixture, type Harness, keyId, mintedCoin } from '../../conformance/harness';
import { COIN_CATEGORY_NAMES, type CoinCategoryName, specOf } from '../../contract/coin-category';
import {
  type ContactPriority,
  type DeviceStorage,
  fetchForDevices,
  fetchOnDemand,
  type InventoryCoin,
  type MintedCoin,
  publishCoins,
  reconcileCoins,
  topUp,
} from '../../index';
import type { HonestCoinService } from './honest-coin-service';
import { MODEL_BUDGETS } from './steps';
import { StoragePlace } from './storage-place';

/** The coin service calls a coin fresh until 24 hours before it expires, the vault keeps its half 7 days longer. */
const LAST_DAYS = 8 * DAY;
/** The largest error of a clock that may pass unnoticed, see `believedMs`. */
const UNNOTICED = 3 * DAY;

/** The devices of each user: the unnamed one, and two others. */
export const DEVICES = ['', keyId(0xd1), keyId(0xd2)] as const;
/** The device of the user whose storage it is, and another one, which has a vault elsewhere. */
const [, MINE, OTHER] = DEVICES;
/** The coins that the user's other device has in stock. Nothing that this device does may touch them. */
const COINS_OF_OTHER = 3;

/** The private halves and coins that the device must have, with the expiry of each. A restored storage has what its backup had. */
class Kept {
  /** The private halves that the vault held after the last step. */
  halves: ReadonlyMap<string, number> = new Map();
  readonly burned = new Map<string, number>();
  /** Coins that were used, by contact and id. */
  readonly used = new Map<string, InventoryCoin>();

  copy(): Kept {
    const copy = new Kept();
    copy.halves = this.halves;
    for (const [id, expiry] of this.burned) copy.burned.set(id, expiry);
    for (const [name, coin] of this.used) copy.used.set(name, coin);
    return copy;
  }
}

/** The action of one step, as plain data, which is printed when it fails. */
export type Action =
  | { do: 'mint'; categories: readonly CoinCategoryName[]; storeFirst: boolean }
  | { do: 'reconcile'; retireMany: boolean }
  | { do: 'fetchOnDemand' | 'select'; contact: number; device: number; category: CoinCategoryName }
  | { do: 'fetchForDevices' | 'selectForDevices'; contact: number; category: CoinCategoryName }
  | { do: 'upload'; contact: number; device: number; category: CoinCategoryName; count: number; life: number }
  | { do: 'remove'; contact: number; device: number }
  | { do: 'prioritise'; contact: number; priority: ContactPriority }
  | { do: 'receive'; category: CoinCategoryName }
  | { do: 'topUp' | 'purge' | 'collect' | 'maintain' | 'useAgain' | 'switchAccount' | 'reopen' }
  | { do: 'backUp' | 'restore' | 'away' | 'lost' };

export interface Step {
  /** The milliseconds that pass before the action. */
  readonly after: number;
  /** The milliseconds by which the device's clock is wrong during the action. */
  readonly jump: number;
  /** The number of calls to the service that fail, and if only their answer is lost. */
  readonly failing: { readonly calls: number; readonly when: 'before' | 'after' };
  readonly action: Action;
}

/** A device of a user with two contacts, all with several devices, and an honest coin service. Every step is followed by a check of the promises. */
export class World {
  readonly #fixture: Fixture;
  readonly #service: HonestCoinService;
  readonly #place: StoragePlace;
  readonly #me: string;
  readonly #contacts: readonly { readonly contactId: string; readonly userId: string }[];
  #storage: DeviceStorage;
  #jump = 0;
  #coins = 0;
  /** The latest time that the storage may have trusted: clocks that were wrong by less than a day moved it. */
  #believedMs = 0;
  #kept = new Kept();
  #backup: Kept | undefined;
  /** Cached coins that topUp reported, by contact and id. */
  readonly #cached = new Map<string, CachedCoin>();
  /** The devices that contacts had removed before the last topUp that went well, by contact and device id. */
  readonly #forgotten = new Set<string>();
  /** Every coin that was used, by contact and id. */
  readonly #used = new Set<string>();
  /** Minted coins whose public half publishCoins did not take. */
  readonly #unpublished = new Set<string>();
  /** False from the loss of private halves until the next reconcile. */
  #isReconciled = true;
  #isFailing = false;

  private constructor(fixture: Fixture, service: HonestCoinService, number: number) {
    this.#fixture = fixture;
    this.#service = service;
    this.#storage = fixture.storage;
    this.#place = new StoragePlace(fixture.childConfig, fixture.clock.now);
    this.#me = keyId(0xa000 + number);
    this.#contacts = ['bob', 'zoë'].map((contactId, n) => ({ contactId, userId: keyId(0xb0_0000 + 2 * number + n) }));
    service.nowMs = () => fixture.clock.now().getTime() - this.#jump;
    service.retired.length = 0;
  }

  /** Creates a new device, whose users no other one has. */
  static async create(harness: Harness, service: HonestCoinService, number: number): Promise<World> {
    const world = new World(await harness.create({ budgets: MODEL_BUDGETS }), service, number);
    await world.#begin();
    return world;
  }

  async #begin(): Promise<void> {
    await this.#storage.owner.bind({ userId: this.#me, deviceId: MINE });
    await this.#storage.inventory.setPriority('bob', 'BESTIE');
    while (this.#ofOther().length < COINS_OF_OTHER) this.#upload(this.#me, OTHER, 'GOLD', 23 * DAY);
  }

  /** Returns the coins in stock of the user's other device. */
  #ofOther() {
    return this.#service.stockOf(this.#me, OTHER);
  }

  destroy(): Promise<void> {
    return this.#fixture.destroy();
  }

  /** Runs a step, and checks the promises. Returns false if the step was refused. */
  async run({ after, jump, failing, action }: Step): Promise<boolean> {
    const { clock } = this.#fixture;
    let isRefused = false;
    clock.advance(after);
    // A lower budget does not evict what has expired by the clock.
    this.#jump = action.do === 'prioritise' ? 0 : jump;
    clock.advance(this.#jump);
    this.#readClock();
    // A new storage takes the clock as it is, until the service corrects it.
    this.#isFailing = failing.calls > 0 && action.do !== 'lost';
    if (this.#isFailing) this.#service.failing = { ...failing };
    try {
      // An app tries again what was refused because of the clock.
      await this.#act(action).catch((error) => {
        if (nameOf(error) === 'ClockError') return this.#act(action);
        throw error;
      });
    } catch (error) {
      if (!this.#isExplained(error, action)) throw error;
      isRefused = true;
    } finally {
      clock.advance(-this.#jump);
      this.#jump = 0;
      this.#service.failing = { calls: 0, when: 'before' };
    }
    await this.#check();
    return !isRefused;
  }

  /** The clock is right: reconciles, and takes out every coin. */
  async audit(): Promise<void> {
    const step = { after: 1000, jump: 0, failing: { calls: 0, when: 'before' } } as const;
    await this.run({ ...step, action: { do: 'reconcile', retireMany: true } });
    await this.run({ ...step, action: { do: 'useAgain' } });
    for (const contact of [0, 1]) {
      const [summary] = await this.#storage.inventory.getSummary(this.#contact(contact).contactId);
      const coins = Object.values(summary?.counts ?? {}).reduce((sum, count) => sum + count, 0);
      for (let n = 0; n < coins; n += 1) {
        await this.run({ ...step, action: { do: 'selectForDevices', contact, category: 'GOLD' } });
      }
    }
    for (const [id, expiry] of this.#kept.burned) {
      const status = expiry > this.#believedMs ? await this.#storage.vault.getStatus(id) : 'BURNED';
      must(status === 'BURNED', `The burned key ${id} is ${status}.`);
    }
    const left = this.#unexpired(this.#cached.values()).filter(({ contactId, deviceId }) =>
      this.#devicesOf(contactId).includes(deviceId),
    );
    must(left.length === 0, 'A cached coin was not selected.');
  }

  #readClock(): void {
    const rightMs = this.#service.nowMs();
    this.#believedMs = Math.max(this.#believedMs, rightMs);
    const deviceMs = rightMs + this.#jump;
    if (deviceMs <= this.#believedMs + DAY) this.#believedMs = Math.max(this.#believedMs, deviceMs);
  }

  /** Returns true for an error that the step must or may have. */
  #isExplained(error: unknown, action: Action): boolean {
    const name = nameOf(error);
    const isLocal = ['purge', 'collect', 'maintain'].includes(action.do);
    if (name === 'CoinServiceError') return this.#isFailing;
    // With the right time, a flow that reaches the service learns it.
    if (name === 'ClockError')
      return isLocal || Math.abs(this.#jump) > DAY || this.#isFailing || (action.do === 'mint' && action.storeFirst);
    return name === 'RetireManyError' && action.do === 'reconcile' && !action.retireMany && !this.#isReconciled;
  }

  async #act(action: Action): Promise<unknown> {
    const storage = this.#storage;
    const access = this.#service.access(this.#me);
    switch (action.do) {
      case 'mint':
        return this.#mint(action.categories, action.storeFirst);
      case 'reconcile': {
        const { results } = await reconcileCoins(storage, access, { retireMany: action.retireMany });
        this.#isReconciled = true;
        for (const { keyId: id, outcome } of results) {
          const isOld = (this.#kept.halves.get(id) ?? 0) <= this.#believedMs + LAST_DAYS + UNNOTICED;
          const isLost = outcome === 'CONFLICT' || (outcome === 'NOT_PUBLISHABLE' && !isOld);
          must(!isLost || this.#unpublished.has(id), `The coin ${id} became ${outcome}.`);
        }
        return undefined;
      }
      case 'topUp': {
        for (const report of (await topUp(storage, access, this.#contacts)).contacts) {
          const { contactId, stored, discarded, devices, removed, error } = report;
          must(error === undefined || this.#isFailing, `topUp failed: ${error}`);
          must(discarded.length === 0, `topUp discarded ${JSON.stringify(discarded)}.`);
          for (const coin of removed) this.#cached.delete(`${contactId} ${coin.keyId}`);
          for (const coin of stored) this.#cache(contactId, coin.keyId, coin.coinCategory);
          if (error !== undefined) continue;
          const there = this.#devicesOf(contactId);
          const known = devices.map(({ deviceId = '' }) => deviceId);
          must(known.join() === there.join(), `topUp knows the devices ${known} instead of ${there}.`);
          for (const deviceId of DEVICES) {
            const isRemoved = this.#service.isRemoved(this.#userOf(contactId), deviceId);
            if (isRemoved) this.#forgotten.add(`${contactId} ${deviceId}`);
          }
        }
        return undefined;
      }
      case 'fetchOnDemand': {
        const deviceId = deviceAt(action.device);
        const wish = { ...this.#contact(action.contact), coinCategory: action.category, deviceId };
        return this.#use(await fetchOnDemand(storage, access, wish), deviceId);
      }
      case 'fetchForDevices': {
        const { contactId, userId } = this.#contact(action.contact);
        const wish = { contactId, userId, coinCategory: action.category };
        const found = await fetchForDevices(storage, access, wish);
        const known = found.map(({ deviceId = '' }) => deviceId);
        const there = this.#devicesOf(contactId);
        must(known.join() === there.join(), `fetchForDevices answered ${known} instead of ${there}.`);
        for (const { deviceId, coin } of found) this.#use(coin, deviceId);
        return undefined;
      }
      case 'select': {
        const deviceId = deviceAt(action.device);
        const { contactId } = this.#contact(action.contact);
        return this.#use(await storage.inventory.selectCoin(contactId, action.category, { deviceId }), deviceId);
      }
      case 'selectForDevices': {
        const { contactId } = this.#contact(action.contact);
        for (const { deviceId, coin } of await storage.inventory.selectCoins(contactId, action.category)) {
          this.#use(coin, deviceId);
        }
        return undefined;
      }
      case 'upload': {
        const { userId } = this.#contact(action.contact);
        for (let n = 0; n < action.count; n += 1) {
          this.#upload(userId, deviceAt(action.device), action.category, action.life);
        }
        return undefined;
      }
      case 'remove':
        this.#service.remove(this.#contact(action.contact).userId, deviceAt(action.device));
        return undefined;
      case 'prioritise': {
        const { contactId } = this.#contact(action.contact);
        const { evicted } = await storage.inventory.setPriority(contactId, action.priority);
        for (const coin of evicted) this.#cached.delete(`${contactId} ${coin.keyId}`);
        return undefined;
      }
      case 'receive':
        return this.#receive(action.category);
      case 'purge':
        return storage.vault.purgeExpired();
      case 'collect':
        return storage.inventory.garbageCollect();
      case 'maintain':
        return storage.maintain();
      case 'useAgain':
        return this.#useAgain();
      case 'switchAccount':
        return this.#switchAccount();
      case 'away':
        return this.#takeAway();
      case 'backUp':
        await this.#place.backUp(storage);
        this.#backup = this.#kept.copy();
        return undefined;
      case 'reopen':
        return this.#reopen(async () => undefined);
      case 'restore': {
        if (this.#backup === undefined) return undefined;
        await this.#reopen(() => this.#place.restore());
        // They may have been used since the backup.
        must((await this.#storage.inventory.getTotalStorageBytes()) === 0, 'A restored storage has cached coins.');
        return this.#loseAllBut(this.#backup.copy());
      }
      case 'lost':
        await this.#reopen(() => this.#place.lose());
        this.#loseAllBut(new Kept());
        await this.#begin();
        await this.#act({ do: 'topUp' }).catch((error) => must(nameOf(error) === 'ClockError', String(error)));
        return this.#act({ do: 'reconcile', retireMany: true });
    }
  }

  #contact(contact: number): { readonly contactId: string; readonly userId: string } {
    const [first = { contactId: '', userId: '' }, second = first] = this.#contacts;
    return contact === 0 ? first : second;
  }

  /** Returns the devices that a contact has at the service, the unnamed one first. */
  #devicesOf(contactId: string): string[] {
    return this.#service.devicesOf(this.#userOf(contactId));
  }

  #userOf(contactId: string): string {
    return (this.#contacts.find((contact) => contact.contactId === contactId) ?? this.#contact(0)).userId;
  }

  /** A device of a user uploads a coin, unless it was removed. */
  #upload(userId: string, deviceId: string, category: CoinCategoryName, life: number): void {
    if (this.#service.isRemoved(userId, deviceId)) return;
    const { keyId: id, publicKey, signature } = this.#mintOne(category);
    this.#service.add(userId, {
      keyId: id,
      coinCategory: specOf(category).category,
      publicKey: Buffer.from(publicKey),
      signature: Buffer.from(signature),
      expireTime: new Date(this.#service.nowMs() + life),
      deviceId,
    });
  }

  #mintOne(category: CoinCategoryName): MintedCoin {
    this.#coins += 1;
    return coinOf(this.#coins, category);
  }

  /** Returns those that have not expired, not even by a wrong clock that passed unnoticed. */
  #unexpired<Coin extends { readonly expiresAt: Date }>(coins: Iterable<Coin>): Coin[] {
    return [...coins].filter(({ expiresAt }) => expiresAt.getTime() > this.#believedMs);
  }

  /** Notes a coin that topUp has stored. */
  #cache(contactId: string, id: string, coinCategory: CoinCategoryName): void {
    const { expireTime: expiresAt = new Date(0), deviceId = '' } =
      this.#service.spentCoin(this.#userOf(contactId), id) ?? {};
    must(expiresAt.getTime() > 0, `The coin ${id} was not handed out.`);
    must(!this.#used.has(`${contactId} ${id}`), `The used coin ${id} was stored.`);
    this.#cached.set(`${contactId} ${id}`, { contactId, deviceId, coinCategory, expiresAt });
  }

  /** Uses a coin that was selected or fetched on demand for this device. */
  #use(coin: InventoryCoin | null, deviceId = ''): void {
    if (coin === null) return;
    const name = `${coin.contactId} ${coin.keyId}`;
    const owned = this.#service.spentCoin(this.#userOf(coin.contactId), coin.keyId)?.deviceId;
    must(owned === deviceId && (coin.deviceId ?? '') === deviceId, `The coin ${coin.keyId} is not one of ${deviceId}.`);
    must(!this.#forgotten.has(`${coin.contactId} ${deviceId}`), `The coin ${coin.keyId} is one of a removed device.`);
    must(!this.#used.has(name), `The coin ${coin.keyId} was used twice.`);
    must(coin.expiresAt > this.#fixture.clock.now(), `The coin ${coin.keyId} has expired.`);
    this.#used.add(name);
    this.#kept.used.set(name, coin);
    this.#cached.delete(name);
  }

  async #mint(categories: readonly CoinCategoryName[], storeFirst: boolean): Promise<void> {
    const coins = categories.map((category) => this.#mintOne(category));
    if (storeFirst) for (const coin of coins) must(await this.#storage.vault.storeKey(coin), 'A new key was refused.');
    for (const coin of coins) this.#unpublished.add(coin.keyId);
    const taken = () => {
      for (const coin of coins) this.#unpublished.delete(coin.keyId);
    };
    try {
      const { results } = await publishCoins(this.#storage, this.#service.access(this.#me), coins);
      const outcomes = new Map(results.map((result) => [result.keyId, result.outcome]));
      for (const coin of coins) {
        const outcome = outcomes.get(coin.keyId) ?? 'nothing';
        must(['INSERTED', 'ALREADY_PRESENT'].includes(outcome), `A new coin was answered ${outcome}.`);
      }
      taken();
    } catch (error) {
      // The coins wait in the outbox.
      if (nameOf(error) === 'CoinServiceError') taken();
      throw error;
    }
  }

  /** A sender fetches a coin and writes a message: the device opens it once. */
  async #receive(category: CoinCategoryName): Promise<void> {
    const stock = this.#service.available(this.#me, MINE);
    const coin = stock.find(({ coinCategory }) => coinCategory === specOf(category).category);
    if (coin === undefined) return;
    const { keyId: id } = this.#service.handOut(this.#me, coin);
    const { vault } = this.#storage;
    if (this.#isReconciled && this.#jump <= 0)
      must((await vault.fetchKey(id)) !== null, `The coin ${id} cannot be opened.`);
    const isBurned = await vault.burnKey(id);
    must(isBurned || !this.#isReconciled, `The private half of ${id} is gone.`);
    if (isBurned) this.#kept.burned.set(id, this.#kept.halves.get(id) ?? 0);
    must((await vault.fetchKey(id)) === null, `The burned key ${id} was fetched.`);
  }

  /** Stores used coins and burned keys again, which must be refused as long as they have not expired. */
  async #useAgain(): Promise<void> {
    const { inventory, vault } = this.#storage;
    for (const coin of this.#unexpired(this.#kept.used.values())) {
      const isStored = await inventory.storeKey(coin).catch(() => false);
      must(!isStored, `The used coin ${coin.keyId} was stored again.`);
    }
    for (const [id, expiry] of this.#kept.burned) {
      if (expiry <= this.#believedMs) continue;
      const isStored = await vault.storeKey({ ...coinOf(1, 'GOLD'), keyId: id }).catch(() => false);
      must(!isStored, `The burned key ${id} was stored again.`);
    }
  }

  /** Calls every flow with the token of another account: nothing is sent. */
  async #switchAccount(): Promise<void> {
    const { calls } = this.#service;
    for (const flow of this.#flowsOf(keyId(0xe0e)))
      must((await refusalOf(flow)) === 'WrongOwnerError', 'Another owner.');
    must(this.#service.calls === calls, 'Another account reached the service.');
  }

  async #takeAway(): Promise<void> {
    const putBack = await this.#place.takeAway();
    for (const flow of [...this.#flowsOf(this.#me), () => this.#storage.vault.listKeyIds()]) {
      const name = await refusalOf(flow);
      const isExplained = ['StorageMissingError', 'ClockError'].includes(name) || this.#isFailing;
      must(isExplained, `A missing storage answered ${name}.`);
    }
    await putBack();
  }

  #flowsOf(userId: string): (() => Promise<unknown>)[] {
    const access = this.#service.access(userId);
    const wish = { ...this.#contact(0), coinCategory: 'GOLD' } as const;
    return [
      () => publishCoins(this.#storage, access, [this.#mintOne('GOLD')]),
      () => reconcileCoins(this.#storage, access, { retireMany: true }),
      () => topUp(this.#storage, access, this.#contacts),
      () => fetchOnDemand(this.#storage, access, wish),
      () => fetchForDevices(this.#storage, access, wish),
    ];
  }

  async #reopen(between: () => Promise<void>): Promise<void> {
    await this.#storage.close();
    await between();
    this.#storage = await this.#fixture.open();
  }

  #loseAllBut(kept: Kept): void {
    this.#kept = kept;
    this.#cached.clear();
    this.#isReconciled = false;
  }

  /** Checks the promises while the clock is right. */
  async #check(): Promise<void> {
    this.#readClock();
    const { vault, inventory } = this.#storage;
    const halves = new Map<string, number>();
    for (const id of await vault.listKeyIds()) {
      const expiry = this.#kept.halves.get(id) ?? (await vault.fetchKey(id))?.expiresAt.getTime();
      halves.set(id, expiry ?? Number.NaN);
    }
    for (const [id, expiry] of this.#kept.halves) {
      const isGone = expiry <= this.#believedMs || this.#kept.burned.has(id);
      must(isGone || halves.has(id), `The private half of ${id} is lost.`);
    }
    for (const [id, expiry] of this.#kept.burned) {
      must(expiry <= this.#believedMs || !halves.has(id), `The burned key ${id} is back.`);
    }
    this.#kept.halves = halves;
    for (const id of this.#service.retired.splice(0)) must(!halves.has(id), `The coin ${id} was retired.`);
    for (const { keyId: id } of this.#isReconciled ? this.#service.available(this.#me, MINE) : []) {
      must(halves.has(id), `The coin ${id} can be fetched, but not opened.`);
    }
    must(this.#ofOther().length === COINS_OF_OTHER, "Coins of the user's other device are gone.");
    const summaries = await inventory.getSummary();
    for (const contactId of new Set([...this.#cached.values()].map((coin) => coin.contactId))) {
      const devices = summaries.find((summary) => summary.contactId === contactId)?.devices ?? [];
      // What a removed device uploaded is forgotten by the next topUp, also by one that failed later.
      for (const deviceId of this.#devicesOf(contactId)) {
        const counts = devices.find((device) => (device.deviceId ?? '') === deviceId)?.counts;
        for (const category of COIN_CATEGORY_NAMES) {
          const cached = this.#unexpired(this.#cached.values()).filter(
            (coin) => coin.contactId === contactId && coin.deviceId === deviceId && coin.coinCategory === category,
          );
          const lost = cached.length - (counts?.[category] ?? 0);
          must(lost <= 0, `${lost} cached ${category} coins of ${contactId} are lost.`);
        }
      }
    }
    // Coins that have expired by a clock that was ahead fill no budget, until the service corrects it.
    if (this.#believedMs > this.#service.nowMs()) return;
    for (const { contactId, priority, devices } of summaries) {
      for (const { counts } of devices) {
        for (const category of COIN_CATEGORY_NAMES) {
          const [count, budget] = [counts[category], MODEL_BUDGETS[priority][category]];
          must(
            count <= budget,
            `A device of ${contactId} has ${count} ${category} coins, but the budget is ${budget}.`,
          );
        }
      }
    }
  }
}

type CachedCoin = Pick<InventoryCoin, 'contactId' | 'coinCategory' | 'expiresAt'> & { readonly deviceId: string };

function deviceAt(device: number): string {
  return DEVICES[device] ?? '';
}

/** Each key pair is made once: every world mints the same ones. */
const minted = new Map<string, MintedCoin>();

function coinOf(number: number, category: CoinCategoryName): MintedCoin {
  const coin = minted.get(`${number} ${category}`) ?? mintedCoin(number, category);
  minted.set(`${number} ${category}`, coin);
  return coin;
}

class BrokenPromise extends Error {
  override readonly name = 'BrokenPromise';
}

function must(holds: boolean, violation: string): void {
  if (!holds) throw new BrokenPromise(violation);
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : String(error);
}

async function refusalOf(call: () => Promise<unknown>): Promise<string> {
  try {
    return `nothing: ${JSON.stringify(await call())}`;
  } catch (error) {
    return nameOf(error);
  }
}
