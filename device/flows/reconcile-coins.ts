import { CoinServiceError } from '../../coin-client/coin-service-error';
import { invalidAnswer } from '../../coin-client/unary-call';
import type { InventoryCount } from '../../gen/aqm/coin/v1/coin';
import { CoinStateResult_State as State } from '../../gen/aqm/coin/v1/coin_service';
import { COIN_CATEGORY_NAMES, type CoinCategoryName, perCategory, specOf } from '../contract/coin-category';
import type { DeviceStorage } from '../contract/device-storage';
import type { CoinName } from '../contract/inventory';
import { InvalidArgumentError, RetireManyError } from '../errors';
import { observeFlow } from '../telemetry/traced';
import { requireOwnDevice } from './own-device';
import { MAX_EPOCHS, type PublishReport, publishCoins } from './publish-coins';
import { requireOwner } from './require-owner';
import { type CoinServiceAccess, callService, checkAccess } from './service-call';

/**
 * The state of one private half's coin at the coin service, and the consequence.
 *
 * - IN_STOCK: the coin can be fetched. Nothing is to be done.
 * - SPENT: the coin was handed out or retired, and is never published again. The private half stays until its expiry,
 *   because a message to it may be on its way.
 * - EXPIRED: the coin is too close to its expiry to be handed out, and is never published again. The private half stays
 *   until its expiry.
 * - TO_PUBLISH: the service does not know the coin, which was sent under the current epoch or never. It was put (back)
 *   into the outbox and published; `published` has the outcome.
 * - NOT_PUBLISHABLE: the service does not know the coin, and it cannot be published: it was sent before the service was
 *   restored from a backup, it was refused when it was sent, or the device has no public half of it, because
 *   publishCoins never got it. The private half stays until its expiry. In the last case pass the coin to publishCoins,
 *   otherwise mint another one.
 * - CONFLICT: the service has a coin with this id that publishCoins found to be another one. This device cannot decrypt
 *   with it, so it was left out of the list of coins to keep, and is retired. Mint another coin with a new id.
 */
export type ReconcileOutcome = 'IN_STOCK' | 'SPENT' | 'EXPIRED' | 'TO_PUBLISH' | 'NOT_PUBLISHABLE' | 'CONFLICT';

export interface ReconcileResult extends CoinName {
  readonly outcome: ReconcileOutcome;
}

export interface ReconcileReport {
  /** One result per private half that was active when the vault was read. */
  readonly results: ReconcileResult[];
  /**
   * The number of coins whose private half this vault does not hold, and that can no longer be fetched. Null if more
   * coins of the category are in stock than a list can name (1000), so that none was retired.
   */
  readonly retired: Record<CoinCategoryName, number | null>;
  /** The report on all coins that waited in the outbox, including those that were put back. */
  readonly published: PublishReport;
}

export interface ReconcileOptions {
  /**
   * Retires coins also if they are more than half of a category's stock of 4 or more. That is right after the vault was
   * wiped or restored from a backup; otherwise it is more likely that the wrong storage is open or the clock is wrong.
   * Default false.
   */
  readonly retireMany?: boolean;
}

/** The maximum number of ids of one ReconcileCoins call. */
const MAX_IDS = 1000;
/** A stock of fewer coins may be retired as a whole without `retireMany`. */
const MIN_GUARDED_STOCK = 4;

/**
 * Makes the stock of the storage's device (`owner.deviceId`) at the coin service match the vault. Call it after the vault
 * was restored from an old backup or wiped, after the service lost coins or was restored, and from time to time. Coins
 * that the service lost are published again, and coins whose private half was lost are retired there permanently. The
 * user's other devices are not affected. Two vaults must not share a device id, nor both be the unnamed device: each
 * would retire the other's coins.
 *
 * It may run at the same time as publishCoins of any process. After a crash at any point, call it again. Rejects with
 * RetireManyError, before anything was changed, if it would retire more than half of a category's stock of 4 or more
 * and `retireMany` is not true; otherwise with the same errors as publishCoins.
 */
export async function reconcileCoins(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  options: ReconcileOptions = {},
): Promise<ReconcileReport> {
  checkAccess(service);
  const { retireMany = false } = options;
  if (typeof retireMany !== 'boolean') throw new InvalidArgumentError('retireMany', 'must be true or false');
  return observeFlow(storage, 'reconcile_coins', async () => {
    await requireOwner(storage, service, { bind: true });
    const deviceId = await requireOwnDevice(storage);
    const compared = await compare(storage, service, { retireMany, deviceId });
    return { ...compared, published: await publishCoins(storage, service, []) };
  });
}

type Compared = Omit<ReconcileReport, 'published'>;

/** Compares the vault with the stock, and starts again if the service is restored meanwhile. */
async function compare(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  { retireMany, deviceId }: { readonly retireMany: boolean; readonly deviceId: string },
): Promise<Compared> {
  for (let epochs = 1; ; epochs += 1) {
    const count = await countStock(service, deviceId);
    const { databaseEpoch, serverTime } = count;
    // A clock that is ahead would leave active keys out of the list, and the service would retire their coins.
    await storage.clock.confirm(serverTime);
    const comparisons = COIN_CATEGORY_NAMES.map(
      (coinCategory) =>
        new Comparison(storage, service, { coinCategory, databaseEpoch, deviceId, listedAt: serverTime }),
    );
    try {
      for (const comparison of comparisons) await comparison.askStates();
      if (!retireMany) await refuseToRetireMany(comparisons, count.available, () => countStock(service, deviceId));
      const results: ReconcileResult[] = [];
      const retired: Record<CoinCategoryName, number | null> = perCategory(() => null);
      for (const comparison of comparisons) retired[comparison.coinCategory] = await comparison.repair(results);
      return { results, retired };
    } catch (error) {
      const isRestored = error instanceof CoinServiceError && error.reason === 'EPOCH_CHANGED';
      if (epochs === MAX_EPOCHS || !isRestored) throw error;
    }
  }
}

async function countStock(service: CoinServiceAccess, deviceId: string) {
  const count = await callService(service, service.client.getInventoryCount, { deviceId });
  const { databaseEpoch, serverTime, available } = count;
  if (serverTime === undefined) throw invalidAnswer('The response of GetInventoryCount has no server_time.');
  if (available === undefined) throw invalidAnswer('The response of GetInventoryCount has no available coins.');
  return { databaseEpoch, serverTime, available };
}

/** Throws RetireManyError if the comparisons would retire more than half of a category's stock. */
async function refuseToRetireMany(
  comparisons: readonly Comparison[],
  counted: InventoryCount,
  countAgain: () => Promise<{ readonly available: InventoryCount }>,
): Promise<void> {
  if (comparisons.every((comparison) => comparison.retiresFew(counted))) return;
  // Coins that were handed out between the count and the states look as if they would be retired. They are not in stock
  // any more in a second count, and coins that were uploaded meanwhile were not yet in the first.
  const { available: recounted } = await countAgain();
  const many = comparisons.filter((comparison) => !comparison.retiresFew(counted) && !comparison.retiresFew(recounted));
  if (many.length > 0) throw new RetireManyError(many.map((comparison) => comparison.wouldRetire(recounted)));
}

interface Listing {
  readonly coinCategory: CoinCategoryName;
  readonly databaseEpoch: string;
  /** The device whose coins are compared; empty for the unnamed one. */
  readonly deviceId: string;
  /**
   * A server_time from before the vault is read. A private half is in the vault before its coin is uploaded, so a coin
   * uploaded before this time is listed unless its private half is lost. Coins uploaded later are never retired.
   */
  readonly listedAt: Date;
}

/** Compares the coins of one category. */
class Comparison {
  readonly coinCategory: CoinCategoryName;
  readonly #storage: DeviceStorage;
  readonly #service: CoinServiceAccess;
  readonly #listing: Listing;
  #states: ReadonlyMap<string, State> = new Map();

  constructor(storage: DeviceStorage, service: CoinServiceAccess, listing: Listing) {
    this.coinCategory = listing.coinCategory;
    this.#storage = storage;
    this.#service = service;
    this.#listing = listing;
  }

  /** Reads the vault, and asks the service for the state of every coin. Changes nothing. */
  async askStates(): Promise<void> {
    this.#states = await this.#statesOf(await this.#storage.vault.listKeyIds(this.coinCategory));
  }

  /** Returns false if the list would retire more than half of the counted stock. */
  retiresFew(counted: InventoryCount): boolean {
    const { available, wouldRetire } = this.wouldRetire(counted);
    const isTooLong = this.#idsIn(State.STATE_IN_STOCK).length > MAX_IDS;
    return isTooLong || available < MIN_GUARDED_STOCK || 2 * wouldRetire <= available;
  }

  /**
   * Returns how many coins of the counted stock the vault does not know of. Coins that are in CONFLICT are not among
   * them: the service itself has said that this device's coin is another one.
   */
  wouldRetire(counted: InventoryCount) {
    const available = counted[specOf(this.coinCategory).countField];
    const wouldRetire = Math.max(0, available - this.#idsIn(State.STATE_IN_STOCK).length);
    return { coinCategory: this.coinCategory, available, wouldRetire };
  }

  /**
   * Publishes and retires what differs. Adds the results, and returns the number of retired coins, or null if the list
   * would have been too long.
   */
  async repair(results: ReconcileResult[]): Promise<number | null> {
    const { coinCategory } = this;
    const { outbox } = this.#storage;
    const inStock = this.#idsIn(State.STATE_IN_STOCK);
    const unknown = this.#idsIn(State.STATE_UNKNOWN);
    const conflicts = new Set(await outbox.conflictsAmong(inStock));
    await outbox.remove(this.#idsIn(State.STATE_SPENT), 'SPENT');
    await outbox.remove(this.#idsIn(State.STATE_EXPIRED), 'EXPIRED');
    const waiting = new Set(await outbox.publishAgain(this.#listing.databaseEpoch, unknown));
    for (const [keyId, state] of this.#states) {
      const known = conflicts.has(keyId) ? 'CONFLICT' : OUTCOMES[state];
      results.push({ keyId, coinCategory, outcome: known ?? (waiting.has(keyId) ? 'TO_PUBLISH' : 'NOT_PUBLISHABLE') });
    }
    const own = inStock.filter((id) => !conflicts.has(id));
    if (own.length > MAX_IDS) return null;
    // A coin whose upload had begun but was not committed was unknown, and may be in stock now with an upload time
    // before listedAt, so it must be on the list. The waiting coins may be such coins; the others are listed as far as
    // they fit.
    const others = unknown.filter((id) => !waiting.has(id));
    const keyIds = [...own, ...waiting, ...others].slice(0, MAX_IDS);
    return (await this.#call(keyIds, true)).retiredCount;
  }

  #idsIn(wanted: State): string[] {
    return [...this.#states].filter(([, state]) => state === wanted).map(([keyId]) => keyId);
  }

  async #statesOf(keyIds: readonly string[]): Promise<Map<string, State>> {
    const states = new Map<string, State>();
    for (let start = 0; start < keyIds.length; start += MAX_IDS) {
      const part = keyIds.slice(start, start + MAX_IDS);
      const { results } = await this.#call(part, false);
      for (const [index, keyId] of part.entries()) {
        const result = results[index];
        if (result?.keyId !== keyId || !KNOWN_STATES.has(result.state)) {
          throw invalidAnswer(`The coin service gave no state that this release knows for id ${index} of the list.`);
        }
        states.set(keyId, result.state);
      }
    }
    return states;
  }

  #call(keyIds: string[], complete: boolean) {
    const { coinCategory, ...listing } = this.#listing;
    const request = { ...listing, coinCategory: specOf(coinCategory).category, keyIds, complete };
    return callService(this.#service, this.#service.client.reconcileCoins, request);
  }
}

const OUTCOMES: Partial<Record<State, ReconcileOutcome>> = {
  [State.STATE_IN_STOCK]: 'IN_STOCK',
  [State.STATE_SPENT]: 'SPENT',
  [State.STATE_EXPIRED]: 'EXPIRED',
};
const KNOWN_STATES: ReadonlySet<State> = new Set([
  State.STATE_IN_STOCK,
  State.STATE_SPENT,
  State.STATE_EXPIRED,
  State.STATE_UNKNOWN,
]);
