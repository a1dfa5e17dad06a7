/**
 * Runs works with the same key one after the other, in the order of the calls. Those that wait hold
 * nothing but memory.
 */
export class OneAtATime {
  readonly #latest = new Map<string, Promise<void>>();

  /** Runs `work` once all earlier works with this key have ended, whatever became of them. */
  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#latest.get(key);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#latest.set(key, promise);
    try {
      await before;
      return await work();
    } finally {
      resolve();
      if (this.#latest.get(key) === promise) this.#latest.delete(key);
    }
  }
}
