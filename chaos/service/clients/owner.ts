import type { Coin, CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import { COIN_CATEGORIES } from '../../../gen/aqm/coin/v1/coin_categories';
import { CoinStateResult_State as State } from '../../../gen/aqm/coin/v1/coin_service';
import { HAND_OUT_MARGIN_S, LIMITS } from '../../../services/coin/coin';
import { countsOf } from '../answers';
import type { Acting, Caller } from '../caller';
import { coinOf, mint } from '../coin-bytes';
import type { UploadCall } from '../history';
import type { Random } from '../random';
import type { Account, Device } from './account';
import { isTransient, Loop, type RunContext } from './loop';

export interface OwnerOptions {
  /** The stock per category that it maintains. */
  readonly stock: number;
  /** The maximum number of coins per upload. */
  readonly batch: number;
  readonly pauseMs: number;
}

const CATEGORIES = COIN_CATEGORIES.map((spec) => spec.category);
/** The share of private halves that a device has lost when it reconciles. */
const LOST_SHARE = 0.1;

/**
 * Acts for one device of a user. Uploads new coins to maintain its stock, and sometimes old ones again, whether spent
 * or not; reconciles it with its vault. After its removal it goes on uploading for a while; then another device takes
 * its place. The unnamed device also removes the others.
 */
export class Owner extends Loop {
  readonly #account: Account;
  readonly #options: OwnerOptions;
  #device: Device;
  /** The error of its clock, in milliseconds. */
  readonly #skewMs: number;

  constructor(
    context: RunContext,
    caller: Caller,
    random: Random,
    { account, device, ...options }: OwnerOptions & { account: Account; device: Device },
  ) {
    super(context, caller, random);
    this.#account = account;
    this.#device = device;
    this.#options = options;
    this.#skewMs = random.between(-240_000, 240_000);
  }

  override async run(): Promise<void> {
    // So that not all devices fill their stock at the same moment.
    await this.pause(1500);
    await super.run();
  }

  protected async step(): Promise<void> {
    const { random } = this;
    const { workload } = this.context;
    if (this.#device.isRemoved) await this.#outliveRemoval();
    const counted = await this.caller.count(this.anyServer(), this.deadlineMs, this.#acting());
    if (counted) {
      const available = countsOf(counted.available);
      for (const category of CATEGORIES) await this.#fillUp(category, available[category] ?? 0);
      if (random.chance(workload.reuploadShare)) await this.#uploadAgain();
      if (random.chance(workload.reconcileShare)) await this.#reconcile(counted.serverTime);
    }
    if (random.chance(workload.strayShare)) await this.#uploadToOther();
    if (this.#device.id === '' && random.chance(workload.removeShare)) await this.#removeOther();
    if (this.#device.id === '' && random.chance(workload.removeShare)) await this.#list();
    await this.pause(this.#options.pauseMs);
  }

  /** Names the device in the request, or in the token, or in both. */
  #acting(): Acting {
    const deviceId = this.#device.id;
    if (deviceId === '') return { deviceId };
    const dice = this.random.next();
    if (dice < 0.2) return { deviceId: '', claim: deviceId };
    return dice < 0.3 ? { deviceId, claim: deviceId } : { deviceId };
  }

  async #fillUp(category: CoinCategory, available: number): Promise<void> {
    const { stock, batch } = this.#options;
    if (available >= stock) return;
    const count = Math.min(stock - available, this.random.between(1, batch), LIMITS.coinsPerUpload);
    const coins = Array.from({ length: count }, () => mint(category, this.#expiry()));
    // A private half is in the vault before its upload is sent.
    for (const { keyId } of coins) this.#device.vault(category).add(keyId);
    // Repeated until they are known to be stored, as the devices' outbox does.
    let call = await this.#upload(coins);
    while (call.failure && isTransient(call.failure)) {
      await this.pause(100);
      call = await this.#upload(coins);
    }
    if (!call.failure) this.#device.remember(coins, this.random);
  }

  #expiry(): Date | undefined {
    const dice = this.random.next();
    if (dice < this.context.workload.fadingShare) {
      return new Date(Date.now() + HAND_OUT_MARGIN_S * 1000 + this.random.between(1000, 20_000));
    }
    return dice < 0.5 ? undefined : new Date(Date.now() + this.#skewMs + 23 * 86_400_000);
  }

  async #uploadAgain(): Promise<void> {
    const coins = this.#device.pickUploaded(this.random.between(1, 20), this.random).map(withBytes);
    if (coins.length > 0) await this.#upload(coins);
  }

  #upload(coins: readonly Coin[], acting = this.#acting()): Promise<UploadCall> {
    return this.caller.upload(this.anyServer(), coins, this.deadlineMs, acting);
  }

  /** Asks for the states of all coins of one category, loses some of them, and lists the rest as complete. */
  async #reconcile(listedAt: Date | undefined): Promise<void> {
    const coinCategory = this.random.pick(CATEGORIES) ?? CATEGORIES[0];
    if (!listedAt || coinCategory === undefined) return;
    const vault = this.#device.vault(coinCategory);
    const keyIds = [...vault].slice(0, LIMITS.idsPerReconcile);
    const states = await this.caller.reconcile(
      this.anyServer(),
      { coinCategory, keyIds },
      this.deadlineMs,
      this.#acting(),
    );
    for (const { keyId, state } of states?.results ?? []) {
      if (state !== State.STATE_IN_STOCK || this.random.chance(LOST_SHARE)) vault.delete(keyId);
    }
    // A complete list is only sent if it can hold the whole vault.
    if (!states || vault.size > LIMITS.idsPerReconcile) return;
    const listing = { coinCategory, keyIds: [...vault], listedAt };
    await this.caller.reconcile(this.anyServer(), listing, this.deadlineMs, this.#acting());
  }

  /** Uploads coins that belong to another device of the user, or with the token of another one. Both are refused. */
  async #uploadToOther(): Promise<void> {
    const { random } = this;
    const other = random.pick(this.#account.devices.filter((device) => device !== this.#device));
    if (!other) return;
    const coins = other.pickUploaded(random.between(1, 5), random).map(withBytes);
    if (coins.length > 0) await this.#upload(coins, { deviceId: this.#device.id });
    const category = random.pick(CATEGORIES) ?? CATEGORIES[0];
    if (this.#device.id === '' || other.id === '' || category === undefined) return;
    await this.#upload([mint(category, undefined)], { deviceId: this.#device.id, claim: other.id });
  }

  /** Removes another device while others use it, and lists the devices afterwards. */
  async #removeOther(): Promise<void> {
    const device = this.#account.pickNamed(this.random);
    if (!device) return;
    device.isBeingRemoved = true;
    let call = await this.caller.removeDevice(this.anyServer(), device.id, this.deadlineMs);
    while (call.failure && isTransient(call.failure) && !this.context.stopped) {
      await this.pause(100);
      call = await this.caller.removeDevice(this.anyServer(), device.id, this.deadlineMs);
    }
    device.isRemoved = true;
    await this.#list();
  }

  #list(): Promise<void> {
    return this.caller.listDevices(this.anyServer(), this.deadlineMs);
  }

  /** Goes on uploading as a device that was removed without notice, and then becomes another one. */
  async #outliveRemoval(): Promise<void> {
    for (let upload = 0; upload < 3; upload++) {
      const category = this.random.pick(CATEGORIES) ?? CATEGORIES[0];
      if (category !== undefined) await this.#upload([mint(category, undefined)]);
      await this.#uploadAgain();
    }
    this.#device = this.#account.replace(this.#device);
  }
}

function withBytes({ keyId, coinCategory, expireTime }: Coin): Coin {
  return coinOf(keyId, coinCategory, expireTime);
}
