import { setTimeout } from 'node:timers/promises';
import { type Fixture, type Harness, passTime } from '../../conformance/harness';
import type { DeviceStorage } from '../../contract/device-storage';
import type { ModelProcess } from './process';
import type { Batch } from './sequences';
import { type Answer, answerOf, type Call, MODEL_BUDGETS } from './steps';
import { StoragePlace } from './storage-place';

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
  /** Where it lies, for what happens to it without the library. */
  readonly place: StoragePlace;
  readonly #fixture: Fixture;
  readonly #processes: readonly ModelProcess[];
  readonly #shape: Handles;
  /** The handles of this process. There is always one. */
  #own: readonly [DeviceStorage, ...DeviceStorage[]];
  #handles: readonly ((call: Call) => Promise<Answer>)[] = [];

  private constructor(fixture: Fixture, processes: readonly ModelProcess[], shape: Handles) {
    this.place = new StoragePlace(fixture.childConfig, fixture.clock.now);
    this.#fixture = fixture;
    this.#processes = processes;
    this.#shape = shape;
    this.#own = [fixture.storage];
  }

  /** Creates an empty storage, with one handle in each of the processes. */
  static create(harness: Harness, processes: readonly ModelProcess[], shape: Handles): Promise<StorageUnderTest> {
    const create = async () => {
      const fixture = await harness.create({ budgets: MODEL_BUDGETS });
      const storage = new StorageUnderTest(fixture, processes, shape);
      await storage.#openOthers(fixture.storage);
      return storage;
    };
    return withinLongestStep(create(), () => ['opening the storage']);
  }

  /** Opens the other handles, after the first one. */
  async #openOthers(first: DeviceStorage): Promise<void> {
    const { clock, childConfig } = this.#fixture;
    const nowMs = () => clock.now().getTime();
    await Promise.all(this.#processes.map((child) => child.open(childConfig, nowMs())));
    const more: DeviceStorage[] = [];
    while (1 + more.length + this.#processes.length < this.#shape.handles) more.push(await this.#fixture.open());
    this.#own = [first, ...more];
    const own = this.#own.map((storage) => (call: Call) => answerOf(storage, call, clock.now));
    const others = this.#processes.map((child) => (call: Call) => child.call(call, nowMs()));
    this.#handles = this.#shape.first === 'own' ? [...own, ...others] : [...others, ...own];
  }

  /** Closes every handle, and opens the storage again, or creates it, after `between`. */
  reopened(between: () => Promise<void>): Promise<void> {
    const reopen = async () => {
      const nowMs = this.now().getTime();
      await Promise.all(this.#processes.map((child) => child.close(nowMs)));
      for (const storage of this.#own) await storage.close();
      await between();
      await this.#openOthers(await this.#fixture.open());
    };
    return withinLongestStep(reopen(), () => ['opening the storage again']);
  }

  /** Makes a backup, in place of an earlier one. */
  backUp(): Promise<void> {
    return this.place.backUp(this.#own[0]);
  }

  get now(): () => Date {
    return this.#fixture.clock.now;
  }

  /**
   * Lets time pass, which the coin service confirms. Every handle is used then: one that was not would know only an
   * earlier trusted time, and might still trust a clock that went back to it.
   */
  async pass(ms: number): Promise<void> {
    await passTime({ clock: this.#fixture.clock, storage: this.#own[0] }, ms);
    await this.readClock();
  }

  /** Makes every handle read the device's clock, so that all of them know the same trusted time. */
  async readClock(): Promise<void> {
    await this.fromEveryHandle({ vault: 'countActive', category: 'GOLD' });
  }

  /** Makes a call by every handle. Returns their answers. */
  fromEveryHandle(call: Call): Promise<Answer[]> {
    return Promise.all(this.#handles.map((handle) => handle(call)));
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
