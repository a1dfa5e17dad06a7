import { COIN_CATEGORIES } from '../../../gen/aqm/coin/v1/coin_categories';
import type { Database } from '../database/pool';
import type { StockLevels } from '../telemetry/gauges';
import { readStockLevels } from './stock-levels';

const NAMES = COIN_CATEGORIES.map(({ name }): string => name);

/** Looks at the stock from time to time, not when a call or a scrape asks. */
export class StockSampler {
  readonly #db: Database;
  readonly #timer: NodeJS.Timeout;
  #isLooking = false;
  #levels: StockLevels | undefined;

  constructor(db: Database, intervalMs: number) {
    this.#db = db;
    this.#timer = setInterval(() => void this.#look(), intervalMs).unref();
    void this.#look();
  }

  /** As of the last look; undefined when it failed: an old number would hide that. */
  get levels(): StockLevels | undefined {
    return this.#levels;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    this.#levels = await readStockLevels(this.#db, NAMES).catch(() => undefined);
    this.#isLooking = false;
  }
}
