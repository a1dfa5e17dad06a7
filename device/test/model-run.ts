import { setTimeout } from 'node:timers/promises';
import fc from 'fast-check';
import type { Fixture, Harness } from '../conformance/harness';
import { DeviceModel } from './model';
import { type Answer, AUDIT, answerOf, type Call, MODEL_BUDGETS } from './model-commands';
import { contradiction, explain, shown } from './model-explain';
import { ModelProcess } from './model-process';
import { type Batch, type Shape, sequencesOf } from './model-sequences';
import { textOf } from './model-text';

export interface RunOptions extends Shape {
  /** How the run is called in its output and by `npm run model -- --run`. */
  readonly name: string;
  readonly sequences: number;
  /** How many of the handles are held by processes of their own. */
  readonly processes: number;
  readonly seed: number | undefined;
  /** Of a failure that was printed: that sequence only. */
  readonly path: string | undefined;
  /** Tells how far it is, every few seconds. */
  readonly progress: boolean;
}

export interface Tried {
  sequences: number;
  calls: number;
  /** Answers other than false, null, 0, nothing and a refusal. */
  telling: number;
  /** The most states that the answers of a sequence allowed at one moment. */
  states: number;
}

/** Far longer than a call may take: the library itself waits at most 5 s for an answer or a lock. */
const LONGEST_STEP_MS = 60_000;
const LONGEST_SHRINKING_MS = 30_000;
const PROGRESS_MS = 5_000;

/**
 * Tries random sequences, each on fresh storages: one of every harness. The answers of a batch must be those of the model
 * for some order of its calls, for one of the states that the answers so far allow; and when calls are made one by one,
 * the same from every storage, with the same errors.
 * @returns what was tried. Throws when a sequence fails; what to paste to repeat it is on stderr before it is shrunk.
 */
export async function tryAgainstModel(harnesses: readonly Harness[], options: RunOptions): Promise<Tried> {
  const { name, path, seed = Math.trunc(Math.random() * 2 ** 31) } = options;
  const tried: Tried = { sequences: 0, calls: 0, telling: 0, states: 1 };
  const processes = harnesses.map(() => Array.from({ length: options.processes }, () => new ModelProcess()));
  const progress = progressOf(tried, options, seed);
  const property = fc.asyncProperty(sequencesOf(options), async (sequence) => {
    const sides = harnesses.map((harness, index) => new Side(harness, options, processes[index] ?? []));
    try {
      for (const side of sides) await withoutHanging(side.open(), () => ['opening the storage']);
      for (const { after, calls } of [...sequence, ...AUDIT_BATCHES]) {
        const answers: Answer[][] = [];
        for (const side of sides) answers.push(await side.follow(after, calls, tried));
        if (options.atOnce === 1) compare(calls, answers);
      }
    } finally {
      for (const side of sides) await withoutHanging(side.destroy(), () => ['closing the storage']);
    }
    tried.sequences += 1;
    progress();
  });
  try {
    const numRuns = path === undefined ? options.sequences : 1;
    const first = await fc.check(property, { numRuns, seed, path, endOnFailure: true });
    if (!first.failed) return tried;
    const counterexample = { seed, path: first.counterexamplePath ?? undefined };
    const repeat = `npm run model -- --run ${name} --seed ${seed} --path ${counterexample.path}`;
    const { errorInstance } = first;
    const reason = errorInstance instanceof Error ? errorInstance.message : String(errorInstance);
    process.stderr.write(`Model: ${name} failed after ${tried.sequences} sequences. Again: ${repeat}\n${reason}\n`);
    if (errorInstance instanceof NoAnswerError) throw errorInstance;
    const limit = { interruptAfterTimeLimit: LONGEST_SHRINKING_MS, markInterruptAsFailure: true };
    const shrunk = await fc.check(property, { numRuns: 1, ...counterexample, ...limit });
    // A race need not end the same way when it is repeated.
    throw new Error(`${fc.defaultReportMessage(shrunk.counterexample === null ? first : shrunk)}\nAgain: ${repeat}`);
  } finally {
    for (const child of processes.flat()) child.end();
  }
}

const AUDIT_BATCHES: readonly Batch[] = AUDIT.map((call) => ({ after: 0, calls: [{ handle: 0, call }] }));

/** A call that is never answered. Not shrunk: every attempt would take as long again. */
class NoAnswerError extends Error {
  override readonly name = 'NoAnswerError';
}

/** One storage with all its handles, and what the model makes of its answers. */
class Side {
  readonly #harness: Harness;
  readonly #shape: Shape;
  readonly #processes: readonly ModelProcess[];
  readonly #handles: ((call: Call) => Promise<Answer>)[] = [];
  #fixture: Fixture | undefined;
  #models: readonly DeviceModel[] = [];

  constructor(harness: Harness, shape: Shape, processes: readonly ModelProcess[]) {
    this.#harness = harness;
    this.#shape = shape;
    this.#processes = processes;
  }

  async open(): Promise<void> {
    const fixture = await this.#harness.create({ budgets: MODEL_BUDGETS });
    this.#fixture = fixture;
    const { clock, storage, childConfig } = fixture;
    const nowMs = () => clock.now().getTime();
    await Promise.all(this.#processes.map((child) => child.open(childConfig, nowMs())));
    this.#handles.push(...this.#processes.map((child) => (call: Call) => child.call(call, nowMs())));
    for (let own = this.#processes.length; own < this.#shape.handles; own += 1) {
      const target = own === this.#processes.length ? storage : await fixture.open();
      this.#handles.push((call) => answerOf(target, call, clock.now));
    }
    this.#models = [new DeviceModel(clock.now, MODEL_BUDGETS)];
  }

  async follow(after: number, calls: Batch['calls'], tried: Tried): Promise<Answer[]> {
    const { clock } = this.#opened;
    clock.advance(after);
    const open = new Set(calls);
    const ask = async (one: Batch['calls'][number]) => {
      const answer = await this.#handles[one.handle]?.(one.call);
      if (answer === undefined) throw new Error(`There is no handle ${one.handle}.`);
      open.delete(one);
      return answer;
    };
    // Other processes first: a handle on SQLite in this one blocks it until its call is done.
    const inOrder = [...calls].sort((a, b) => a.handle - b.handle);
    const asked = new Map(inOrder.map((one) => [one, ask(one)]));
    const all = Promise.all(calls.map((one) => asked.get(one) as Promise<Answer>));
    const answers = await withoutHanging(all, () => [...open].map((one) => JSON.stringify(one)));
    const issued = calls.map(({ call }, index) => ({ call, answer: answers[index] as Answer }));
    const explained = await explain(this.#models, issued, clock.now);
    if (explained.length === 0) throw new Error(await contradiction(this.#models[0], issued, clock.now));
    this.#models = explained;
    tried.states = Math.max(tried.states, explained.length);
    tried.calls += calls.length;
    tried.telling += answers.filter(isTelling).length;
    return answers;
  }

  async destroy(): Promise<void> {
    if (this.#fixture === undefined) return;
    const nowMs = this.#fixture.clock.now().getTime();
    await Promise.all(this.#processes.map((child) => child.close(nowMs)));
    await this.#fixture.destroy();
  }

  get #opened(): Fixture {
    if (this.#fixture === undefined) throw new Error('The storage is not open.');
    return this.#fixture;
  }
}

function compare(calls: Batch['calls'], [one = [], ...others]: readonly Answer[][]): void {
  for (const other of others) {
    for (const [index, answer] of one.entries()) {
      if (textOf(answer) === textOf(other[index])) continue;
      const call = JSON.stringify(calls[index]?.call);
      throw new Error(`The backends differ: ${call}\n  ${shown(answer)}\n  ${shown(other[index])}`);
    }
  }
}

function isTelling(answer: Answer): boolean {
  if (!('value' in answer) || !answer.value) return false;
  return !['[]', textOf({ evicted: [] })].includes(textOf(answer.value));
}

/** `waiting` says what there is no answer to. */
async function withoutHanging<T>(work: Promise<T>, waiting: () => readonly string[]): Promise<T> {
  const enough = new AbortController();
  const late = setTimeout(LONGEST_STEP_MS, undefined, { signal: enough.signal }).then(() => {
    throw new NoAnswerError(`No answer within ${LONGEST_STEP_MS} ms to:\n${waiting().join('\n')}`);
  });
  late.catch(() => undefined);
  try {
    return await Promise.race([work, late]);
  } finally {
    enough.abort();
  }
}

function progressOf(tried: Tried, { name, sequences, progress }: RunOptions, seed: number): () => void {
  const began = performance.now();
  let told = began;
  return () => {
    if (!progress || performance.now() - told < PROGRESS_MS) return;
    told = performance.now();
    const seconds = Math.round((told - began) / 1_000);
    process.stderr.write(
      `Model: ${name}: ${tried.sequences} of ${sequences} sequences, ${tried.calls} calls, ${seconds} s; --seed ${seed}\n`,
    );
  };
}
