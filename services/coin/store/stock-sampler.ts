import { COIN_CATEGORIES } from '../../../gen/aqm/coin/v1/coin_categories';
import type { Database } from '../database/pool';
import type { StockLevels } from '../telemetry/gauges';
import { readStockLevels } from './stock-levels';

const NAMES = COIN_CATEGORIES.map(({ name }): string => name);

/** Reads the stock levels at a fixed interval, independent of calls and scrapes. */
export class StockSampler {
  readonly #db: Database;
  readonly #timer: NodeJS.Timeout;
  #isReading = false;
  #levels: StockLevels | undefined;

  constructor(db: Database, intervalMs: number) {
    this.#db = db;
    this.#timer = setInterval(() => void this.#read(), intervalMs).unref();
    void this.#read();
  }

  /**
   * The latest stock levels; undefined if they could not be read, because an old value would hide
   * the failure.
   */
  get levels(): StockLevels | undefined {
    return this.#levels;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #read(): Promise<void> {
    if (this.#isReading) return;
    this.#isReading = true;
    this.#levels = await readStockLevels(this.#db, NAMES).catch(() => undefined);
    this.#isReading = false;
  }
}
