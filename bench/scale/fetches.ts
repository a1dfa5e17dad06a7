import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { Callers, closedLoop } from '../service/callers';
import { type Latency, latencyOf } from '../service/numbers';
import type { Stage } from '../service/stage';

const LANES = 4;
const CALLERS = 4;

/** Fetches of the BRONZE coins of some users of a stage. What they take is brought again after each block. */
export class Fetches {
  readonly #stage: Stage;
  readonly #callers: Callers;
  readonly #users: readonly string[];
  readonly #durations: number[] = [];
  readonly failures: Record<string, number> = {};

  private constructor(stage: Stage, callers: Callers, users: readonly string[]) {
    this.#stage = stage;
    this.#callers = callers;
    this.#users = users;
  }

  static async of(stage: Stage, users: readonly string[]): Promise<Fetches> {
    return new Fetches(stage, new Callers(stage.service.address, await stage.tokens(CALLERS), users), users);
  }

  async block(ms: number, isWarmUp: boolean): Promise<void> {
    const calls = await closedLoop(this.#callers, LANES, ms);
    for (const { ms: duration, end } of calls) {
      if (end !== 'answered') this.failures[end] = (this.failures[end] ?? 0) + 1;
      else if (!isWarmUp) this.#durations.push(duration);
    }
    const perUser = Math.max(1, Math.round(calls.length / this.#users.length));
    await this.#stage.stock([{ spec: COIN_CATEGORIES[2], perUser }], this.#users);
  }

  get latency(): Latency {
    return latencyOf(this.#durations);
  }

  close(): void {
    this.#callers.close();
  }
}

/** So many blocks of each, by turns, so that both meet the same moods of the machine. The first one only warms up. */
export async function byTurns(one: Fetches, other: Fetches, blocks: number, ms: number): Promise<void> {
  for (let block = -1; block < blocks; block += 1) {
    for (const fetches of block % 2 === 0 ? [one, other] : [other, one]) await fetches.block(ms, block < 0);
  }
}
