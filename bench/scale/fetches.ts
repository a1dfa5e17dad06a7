import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { Callers, closedLoop } from '../harness/callers';
import { type Latency, latencyOf } from '../harness/numbers';
import type { TestBed } from '../harness/test-bed';

const CONCURRENCY = 4;
const CALLERS = 4;

/**
 * Fetches BRONZE coins of some users of a test bed, in blocks. After each block about as many coins
 * are added as it made calls, so that the stock keeps its size. A warm-up block counts in
 * `failures`, but not in `latency`.
 */
export class Fetches {
  readonly #testBed: TestBed;
  readonly #callers: Callers;
  readonly #users: readonly string[];
  readonly #durations: number[] = [];
  readonly failures: Record<string, number> = {};

  private constructor(testBed: TestBed, callers: Callers, users: readonly string[]) {
    this.#testBed = testBed;
    this.#callers = callers;
    this.#users = users;
  }

  static async of(testBed: TestBed, users: readonly string[]): Promise<Fetches> {
    return new Fetches(testBed, new Callers(testBed.service.address, await testBed.tokens(CALLERS), users), users);
  }

  async block(ms: number, isWarmUp: boolean): Promise<void> {
    const calls = await closedLoop(this.#callers, CONCURRENCY, ms);
    for (const { ms: duration, outcome } of calls) {
      if (outcome !== 'answered') this.failures[outcome] = (this.failures[outcome] ?? 0) + 1;
      else if (!isWarmUp) this.#durations.push(duration);
    }
    const perUser = Math.max(1, Math.round(calls.length / this.#users.length));
    await this.#testBed.stock([{ spec: COIN_CATEGORIES[2], perUser }], this.#users);
  }

  get latency(): Latency {
    return latencyOf(this.#durations);
  }

  close(): void {
    this.#callers.close();
  }
}

/**
 * Runs a block of each in turn and swaps their order every time, so that both meet the same
 * conditions of the machine. The first block of each is a warm-up.
 */
export async function runAlternately(one: Fetches, other: Fetches, blocks: number, ms: number): Promise<void> {
  for (let block = -1; block < blocks; block += 1) {
    for (const fetches of block % 2 === 0 ? [one, other] : [other, one]) await fetches.block(ms, block < 0);
  }
}
