import { setTimeout } from 'node:timers/promises';
import fc from 'fast-check';
import type { Fixture, Harness } from '../../conformance/harness';
import { contradiction, explain, shown } from './explain';
import { DeviceModel } from './model';
import { ModelProcess } from './process';
import { type Batch, type Shape, sequencesOf } from './sequences';
import { type Answer, AUDIT, answerOf, type Call, MODEL_BUDGETS } from './steps';
import { textOf } from './text';

export interface RunOptions extends Shape {
  /** How the run is called in its output and by `npm run model -- --run`. */
  readonly name: string;
  readonly sequences: number;
  /** How many of the handles are held by processes of their own. */
  readonly processes: number;
  /**
   * Whose calls of a batch are made first. A call on SQLite blocks its process, so that the others must have theirs by
   * then; calls of this process to Redis overlap for certain, and other processes would decide many contests before.
   */
  readonly first: 'own' | 'processes';
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
const ATTEMPTS = 5;

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
  const follow = (sequence: readonly Batch[]) => {
    const sides = harnesses.map((harness, index) => new Side(harness, options, processes[index] ?? []));
    return followOn(sides, sequence, options, tried);
  };
  const sequences = sequencesOf(options);
  const once = fc.asyncProperty(sequences, async (sequence) => {
    await follow(sequence);
    tried.sequences += 1;
    progress();
  });
  let deadline = Number.POSITIVE_INFINITY;
  const again = fc.asyncProperty(sequences, async (sequence) => {
    // From then on nothing fails any more, so that the shortest sequence by then is reported.
    if (performance.now() > deadline) return;
    // A race need not end the same way when it is repeated.
    for (let attempt = 0; attempt < (options.atOnce === 1 ? 1 : ATTEMPTS); attempt += 1) await follow(sequence);
  });
  try {
    if (path === undefined) {
      const first = await fc.check(once, { numRuns: options.sequences, seed, endOnFailure: true });
      if (!first.failed) return tried;
      const repeat = `npm run model -- --run ${name} --seed ${seed} --path ${first.counterexamplePath}`;
      process.stderr.write(
        `Model: ${name} failed after ${tried.sequences} sequences. Again: ${repeat}\n` +
          `${JSON.stringify(first.counterexample?.[0])}\n${messageOf(first)}\n`,
      );
      if (first.errorInstance instanceof NoAnswerError) throw first.errorInstance;
      const shrunk = await shrink({ seed, path: first.counterexamplePath ?? '0' });
      throw new Error(`${reportOf(shrunk.failed ? shrunk : first)}\nAgain: ${repeat}`);
    }
    const shrunk = await shrink({ seed, path });
    if (shrunk.failed) throw new Error(reportOf(shrunk));
    return { ...tried, sequences: 1 };
  } finally {
    for (const child of processes.flat()) child.end();
  }

  function shrink(found: { readonly seed: number; readonly path: string }) {
    deadline = performance.now() + LONGEST_SHRINKING_MS;
    return fc.check(again, { numRuns: 1, ...found });
  }
}

async function followOn(
  sides: readonly Side[],
  sequence: readonly Batch[],
  { atOnce }: Shape,
  tried: Tried,
): Promise<void> {
  const destroy = async () => {
    for (const side of sides) await withoutHanging(side.destroy(), () => ['closing the storage']);
  };
  try {
    for (const side of sides) await withoutHanging(side.open(), () => ['opening the storage']);
    for (const { after, calls } of [...sequence, ...AUDIT_BATCHES]) {
      const answers: Answer[][] = [];
      for (const side of sides) answers.push(await side.follow(after, calls, tried));
      if (atOnce === 1) compare(calls, answers);
    }
  } catch (error) {
    // The failure, not what comes of it.
    await destroy().catch(() => undefined);
    throw error;
  }
  await destroy();
}

function reportOf(details: fc.RunDetails<[readonly Batch[]]>): string {
  return `${fc.defaultReportMessage(details)}\n${messageOf(details)}`;
}

function messageOf({ errorInstance }: { readonly errorInstance: unknown }): string {
  return errorInstance instanceof Error ? errorInstance.message : String(errorInstance);
}

const AUDIT_BATCHES: readonly Batch[] = AUDIT.map((call) => ({ after: 0, calls: [{ handle: 0, call }] }));

/** A call that is never answered. Not shrunk: every attempt would take as long again. */
class NoAnswerError extends Error {
  override readonly name = 'NoAnswerError';
}

/** One storage with all its handles, and what the model makes of its answers. */
class Side {
  readonly #harness: Harness;
  readonly #options: RunOptions;
  readonly #processes: readonly ModelProcess[];
  readonly #handles: ((call: Call) => Promise<Answer>)[] = [];
  #fixture: Fixture | undefined;
  #models: readonly DeviceModel[] = [];

  constructor(harness: Harness, options: RunOptions, processes: readonly ModelProcess[]) {
    this.#harness = harness;
    this.#options = options;
    this.#processes = processes;
  }

  async open(): Promise<void> {
    const fixture = await this.#harness.create({ budgets: MODEL_BUDGETS });
    this.#fixture = fixture;
    const { clock, storage, childConfig } = fixture;
    const nowMs = () => clock.now().getTime();
    await Promise.all(this.#processes.map((child) => child.open(childConfig, nowMs())));
    const others = this.#processes.map((child) => (call: Call) => child.call(call, nowMs()));
    const own: typeof others = [(call) => answerOf(storage, call, clock.now)];
    while (own.length + others.length < this.#options.handles) {
      const target = await fixture.open();
      own.push((call) => answerOf(target, call, clock.now));
    }
    this.#handles.push(...(this.#options.first === 'own' ? [...own, ...others] : [...others, ...own]));
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
