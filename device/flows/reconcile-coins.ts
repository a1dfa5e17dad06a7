import { CoinServiceError } from '../../coin-client/coin-service-error';
import { invalidAnswer } from '../../coin-client/unary-call';
import { CoinStateResult_State as State } from '../../gen/aqm/coin/v1/coin_service';
import { COIN_CATEGORY_NAMES, type CoinCategoryName, perCategory, specOf } from '../contract/coin-category';
import type { DeviceStorage } from '../contract/device-storage';
import type { CoinName } from '../contract/inventory';
import { observeFlow } from '../telemetry/traced';
import { MAX_EPOCHS, type PublishReport, publishCoins } from './publish-coins';
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
 * - NOT_PUBLISHABLE: the service does not know the coin, but it is never published again: it was sent before the
 *   service was restored from a backup, or the device has no public half of it. The private half stays until its
 *   expiry. Mint another coin.
 */
export type ReconcileOutcome = 'IN_STOCK' | 'SPENT' | 'EXPIRED' | 'TO_PUBLISH' | 'NOT_PUBLISHABLE';

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

/** The maximum number of ids of one ReconcileCoins call. */
const MAX_IDS = 1000;

/**
 * Makes the caller's own stock at the coin service match the vault. Call it after the vault was restored from an old
 * backup or wiped, after the service lost coins or was restored, and from time to time. Coins that the service lost are
 * published again, and coins whose private half was lost are retired there permanently. This vault is assumed to be the
 * only one: another device of the same user, with a vault of its own, would lose its coins.
 *
 * It may run at the same time as publishCoins of any process. After a crash at any point, call it again. Rejects with
 * the same errors as publishCoins.
 */
export async function reconcileCoins(storage: DeviceStorage, service: CoinServiceAccess): Promise<ReconcileReport> {
  checkAccess(service);
  return observeFlow(storage, 'reconcile_coins', async () => {
    const compared = await compare(storage, service);
    return { ...compared, published: await publishCoins(storage, service, []) };
  });
}

type Compared = Omit<ReconcileReport, 'published'>;

/** Compares the vault with the stock, and starts again if the service is restored meanwhile. */
async function compare(storage: DeviceStorage, service: CoinServiceAccess): Promise<Compared> {
  for (let epochs = 1; ; epochs += 1) {
    const { databaseEpoch, serverTime } = await callService(service, service.client.getInventoryCount, {});
    if (serverTime === undefined) throw invalidAnswer('The response of GetInventoryCount has no server_time.');
    // A clock that is ahead would leave active keys out of the list, and the service would retire their coins.
    await storage.clock.confirm(serverTime);
    const results: ReconcileResult[] = [];
    const retired: Record<CoinCategoryName, number | null> = perCategory(() => null);
    try {
      for (const coinCategory of COIN_CATEGORY_NAMES) {
        const comparison = new Comparison(storage, service, { coinCategory, databaseEpoch, listedAt: serverTime });
        retired[coinCategory] = await comparison.run(results);
      }
      return { results, retired };
    } catch (error) {
      const isRestored = error instanceof CoinServiceError && error.reason === 'EPOCH_CHANGED';
      if (epochs === MAX_EPOCHS || !isRestored) throw error;
    }
  }
}

interface Listing {
  readonly coinCategory: CoinCategoryName;
  readonly databaseEpoch: string;
  /**
   * A server_time from before the vault is read. A private half is in the vault before its coin is uploaded, so a coin
   * uploaded before this time is listed unless its private half is lost. Coins uploaded later are never retired.
   */
  readonly listedAt: Date;
}

/** Compares the coins of one category. */
class Comparison {
  readonly #storage: DeviceStorage;
  readonly #service: CoinServiceAccess;
  readonly #listing: Listing;

  constructor(storage: DeviceStorage, service: CoinServiceAccess, listing: Listing) {
    this.#storage = storage;
    this.#service = service;
    this.#listing = listing;
  }

  /** Adds the results and returns the number of retired coins, or null if the list would have been too long. */
  async run(results: ReconcileResult[]): Promise<number | null> {
    const { coinCategory, databaseEpoch } = this.#listing;
    const { outbox, vault } = this.#storage;
    const states = await this.#statesOf(await vault.listKeyIds(coinCategory));
    const idsIn = (...wanted: State[]) =>
      [...states].filter(([, state]) => wanted.includes(state)).map(([keyId]) => keyId);
    const unknown = idsIn(State.STATE_UNKNOWN);
    await outbox.remove(idsIn(State.STATE_SPENT, State.STATE_EXPIRED));
    const waiting = new Set(await outbox.publishAgain(databaseEpoch, unknown));
    for (const [keyId, state] of states) {
      const outcome = OUTCOMES[state] ?? (waiting.has(keyId) ? 'TO_PUBLISH' : 'NOT_PUBLISHABLE');
      results.push({ keyId, coinCategory, outcome });
    }
    const inStock = idsIn(State.STATE_IN_STOCK);
    if (inStock.length > MAX_IDS) return null;
    // A coin whose upload had begun but was not committed was unknown, and may be in stock now with an upload time
    // before listedAt, so it must be on the list. The waiting coins may be such coins; the others are listed as far as
    // they fit.
    const others = unknown.filter((id) => !waiting.has(id));
    const keyIds = [...inStock, ...waiting, ...others].slice(0, MAX_IDS);
    return (await this.#call(keyIds, true)).retiredCount;
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
    const { coinCategory, databaseEpoch, listedAt } = this.#listing;
    const request = { coinCategory: specOf(coinCategory).category, keyIds, complete, listedAt, databaseEpoch };
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
