import { CoinStateResult_State as State } from '../../gen/aqm/coin/v1/coin_service';
import { COIN_CATEGORY_NAMES, type CoinCategoryName, perCategory, specOf } from '../contract/coin-category';
import type { DeviceStorage } from '../contract/device-storage';
import type { CoinName } from '../contract/inventory';
import { observeFlow } from '../telemetry/traced';
import { MAX_EPOCHS, type PublishReport, publishCoins } from './publish-coins';
import { type CoinServiceAccess, callService, checkAccess } from './service-call';
import { isServiceError, reasonOf } from './service-error';

/**
 * What the coin service knew of one private half in the vault, and what became of it.
 *
 * - IN_STOCK: as it should be.
 * - SPENT: handed out or retired. The private half stays until its end, for the message may be on its way; the coin is
 *   never published again.
 * - EXPIRED: too close to its end to be handed out. The same.
 * - TO_PUBLISH: unknown to the service, and sent under its present epoch or never. It was put (back) into the outbox and
 *   published; `published` tells with what outcome.
 * - NOT_PUBLISHABLE: unknown to the service, but never published again: it was sent before the service was restored
 *   from a backup, or the device has no public half of it. The private half stays until its end; mint another.
 */
export type ReconcileOutcome = 'IN_STOCK' | 'SPENT' | 'EXPIRED' | 'TO_PUBLISH' | 'NOT_PUBLISHABLE';

export interface ReconcileResult extends CoinName {
  readonly outcome: ReconcileOutcome;
}

export interface ReconcileReport {
  /** One per private half that was active when the vault was read. */
  readonly results: ReconcileResult[];
  /**
   * Coins whose private half this vault does not hold, and that nobody can fetch any more. Null: more coins of the
   * category are in stock than a list can name (1000), so that none was retired.
   */
  readonly retired: Record<CoinCategoryName, number | null>;
  /** Everything that waited, what was put back included. */
  readonly published: PublishReport;
}

/** ReconcileCoins takes at most this many ids. */
const MAX_IDS = 1000;

/**
 * Brings the vault and the caller's own stock at the coin service together: after the vault was restored from an old
 * backup or wiped, after the service lost coins or was restored, or from time to time. Coins that the service lost are
 * published again, and coins whose private half was lost are retired there, for good. This vault is taken to be the
 * only one: another device of the same user, with a vault of its own, would lose its coins.
 *
 * It may run at the same time as publishCoins of any process, and is resumed after a crash at any point by calling it
 * again. Rejects as publishCoins does.
 */
export async function reconcileCoins(storage: DeviceStorage, service: CoinServiceAccess): Promise<ReconcileReport> {
  checkAccess(service);
  return observeFlow(storage, 'reconcile_coins', async () => {
    const compared = await compare(storage, service);
    return { ...compared, published: await publishCoins(storage, service, []) };
  });
}

type Compared = Omit<ReconcileReport, 'published'>;

/** Begins anew when the service is restored meanwhile. */
async function compare(storage: DeviceStorage, service: CoinServiceAccess): Promise<Compared> {
  for (let epochs = 1; ; epochs += 1) {
    const { databaseEpoch, serverTime } = await callService(service, service.client.getInventoryCount, {});
    if (serverTime === undefined) throw new TypeError('The coin service did not tell its time.');
    const results: ReconcileResult[] = [];
    const retired: Record<CoinCategoryName, number | null> = perCategory(() => null);
    try {
      for (const coinCategory of COIN_CATEGORY_NAMES) {
        const comparison = new Comparison(storage, service, { coinCategory, databaseEpoch, listedAt: serverTime });
        retired[coinCategory] = await comparison.run(results);
      }
      return { results, retired };
    } catch (error) {
      if (epochs === MAX_EPOCHS || !isServiceError(error) || reasonOf(error) !== 'EPOCH_CHANGED') throw error;
    }
  }
}

interface Listing {
  readonly coinCategory: CoinCategoryName;
  readonly databaseEpoch: string;
  /**
   * A server_time from before the vault is read. A private half is in the vault before its coin is uploaded, so that
   * what was uploaded before this time is listed, or lost; and of what came later nothing is retired.
   */
  readonly listedAt: Date;
}

/** One category. */
class Comparison {
  readonly #storage: DeviceStorage;
  readonly #service: CoinServiceAccess;
  readonly #listing: Listing;

  constructor(storage: DeviceStorage, service: CoinServiceAccess, listing: Listing) {
    this.#storage = storage;
    this.#service = service;
    this.#listing = listing;
  }

  /** @returns how many coins were retired, null when the list would have been too long. */
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
    // A coin whose upload had begun but was not committed was unknown, and may be in stock now, with an upload time
    // before listedAt: it must be on the list. Those that wait may be such; of the others, what there is room for.
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
          throw new TypeError(`The coin service gave no state that this release knows for id ${index} of the list.`);
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
