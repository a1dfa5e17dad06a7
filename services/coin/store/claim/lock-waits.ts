import { isLockTimeout } from '../../database/sqlstate';

/**
 * The maximum number of statements that wait for locked coins at the same time. Each of them holds a
 * connection, which the fetches of other users' coins need.
 */
const MAX_WAITS = 4;

/**
 * The statements that wait for locked coins: one for each stock, and few in all. The other fetches of
 * that stock share its outcome, and hold no connection meanwhile.
 */
export class LockWaits {
  /** For each stock, true for the outcome that the coins stayed locked. */
  readonly #running = new Map<string, Promise<boolean>>();

  /**
   * Runs `statement`, which waits for locked coins, or waits for one that does so already.
   * @param stock identifies the coins
   * @param until waits for another statement, for as long as the caller does
   * @returns the result of the statement. After another one, `locked` if its coins stayed locked, and
   *   otherwise `again`: the coins may be free now
   */
  async run<T>(
    stock: string,
    statement: () => Promise<T>,
    until: (other: Promise<boolean>) => Promise<boolean>,
  ): Promise<T | 'locked' | 'again'> {
    const same = this.#running.get(stock);
    if (same !== undefined) return (await until(same)) ? 'locked' : 'again';
    if (this.#running.size >= MAX_WAITS) {
      await until(Promise.race(this.#running.values()));
      return 'again';
    }
    const result = statement();
    const outcome = result.then(() => false, isLockTimeout).finally(() => this.#running.delete(stock));
    this.#running.set(stock, outcome);
    return result;
  }
}
