import { setTimeout } from 'node:timers/promises';
import { type Fixture, type Harness, passTime } from '../../conformance/harness';
import type { ModelProcess } from './process';
import type { Batch } from './sequences';
import { type Answer, answerOf, type Call, MODEL_BUDGETS } from './steps';

/** The handles of a storage. */
export interface Handles {
  /** The number of handles. */
  readonly handles: number;
  /**
   * Whose calls of a batch are made first. A call on SQLite blocks its process, so the calls of the other processes
   * must be made before. Calls of this process to Redis always overlap, and other processes would win many races
   * before them.
   */
  readonly first: 'own' | 'processes';
}

/** Far longer than a call takes on a busy machine: the library itself waits at most 5 s for an answer or a lock. */
const LONGEST_STEP_MS = 120_000;

/** A call that got no answer. Its sequence is not shrunk, because every attempt would take as long again. */
export class NoAnswerError extends Error {
  override readonly name = 'NoAnswerError';
}

/** A storage with all its handles: some in this process, the others in processes of their own. */
export class StorageUnderTest {
  readonly #fixture: Fixture;
  readonly #processes: readonly ModelProcess[];
  readonly #handles: readonly ((call: Call) => Promise<Answer>)[];

  private constructor(
    fixture: Fixture,
    processes: readonly ModelProcess[],
    handles: readonly ((call: Call) => Promise<Answer>)[],
  ) {
    this.#fixture = fixture;
    this.#processes = processes;
    this.#handles = handles;
  }

  /** Creates an empty storage, with one handle in each of the processes. */
  static create(
    harness: Harness,
    processes: readonly ModelProcess[],
    { handles, first }: Handles,
  ): Promise<StorageUnderTest> {
    const create = async () => {
      const fixture = await harness.create({ budgets: MODEL_BUDGETS });
      const { clock, storage, childConfig } = fixture;
      const nowMs = () => clock.now().getTime();
      await Promise.all(processes.map((child) => child.open(childConfig, nowMs())));
      const others = processes.map((child) => (call: Call) => child.call(call, nowMs()));
      const own: typeof others = [(call) => answerOf(storage, call, clock.now)];
      while (own.length + others.length < handles) {
        const target = await fixture.open();
        own.push((call) => answerOf(target, call, clock.now));
      }
      return new StorageUnderTest(fixture, processes, first === 'own' ? [...own, ...others] : [...others, ...own]);
    };
    return withinLongestStep(create(), () => ['opening the storage']);
  }

  get now(): () => Date {
    return this.#fixture.clock.now;
  }

  /**
   * Lets time pass, which the coin service confirms. Every handle is used then: one that was not would know only an
   * earlier trusted time, and might still trust a clock that went back to it.
   */
  async pass(ms: number): Promise<void> {
    await passTime(this.#fixture, ms);
    await Promise.all(this.#handles.map((handle) => handle({ vault: 'countActive', category: 'GOLD' })));
  }

  /** Moves the device's clock, without a word of the coin service. */
  jump(ms: number): void {
    this.#fixture.clock.advance(ms);
  }

  /** Makes the calls of a batch at the same time. Returns their answers, in order. */
  async make({ calls }: Batch): Promise<Answer[]> {
    const pending = new Set(calls);
    const make = async (one: Batch['calls'][number]) => {
      const answer = await this.#handles[one.handle]?.(one.call);
      if (answer === undefined) throw new Error(`There is no handle ${one.handle}.`);
      pending.delete(one);
      return answer;
    };
    const inOrder = [...calls].sort((a, b) => a.handle - b.handle);
    const made = new Map(inOrder.map((one) => [one, make(one)]));
    const all = Promise.all(calls.map((one) => made.get(one) as Promise<Answer>));
    return withinLongestStep(all, () => [...pending].map((one) => JSON.stringify(one)));
  }

  /** Closes every handle and removes the storage. */
  destroy(): Promise<void> {
    const destroy = async () => {
      const nowMs = this.now().getTime();
      await Promise.all(this.#processes.map((child) => child.close(nowMs)));
      await this.#fixture.destroy();
    };
    return withinLongestStep(destroy(), () => ['closing the storage']);
  }
}

/** Rejects with NoAnswerError if the work takes too long; `pending` names the parts without an answer. */
async function withinLongestStep<T>(work: Promise<T>, pending: () => readonly string[]): Promise<T> {
  const done = new AbortController();
  const late = setTimeout(LONGEST_STEP_MS, undefined, { signal: done.signal }).then(() => {
    throw new NoAnswerError(`No answer within ${LONGEST_STEP_MS} ms to:\n${pending().join('\n')}`);
  });
  late.catch(() => undefined);
  try {
    return await Promise.race([work, late]);
  } finally {
    done.abort();
  }
}
