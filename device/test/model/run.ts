import fc from 'fast-check';
import type { Harness } from '../../conformance/harness';
import { BatchCommand, type ModelCommand, type Tried } from './commands';
import { incident } from './incidents';
import { DeviceModel, ModelClock } from './model';
import { ModelProcess } from './process';
import { batchesOf, type Shape } from './sequences';
import { AUDIT, MODEL_BUDGETS } from './steps';
import { type Handles, NoAnswerError, StorageUnderTest } from './storage-under-test';

/** The options of a run of sequences. */
export interface Effort {
  /** The name of the run in its output and in `npm run model -- --run`. */
  readonly name: string;
  readonly sequences: number;
  readonly seed: number | undefined;
  /** The path of a failure that was printed: only that sequence is tried. */
  readonly path: string | undefined;
  /** True to print the progress every few seconds. */
  readonly progress: boolean;
}

export interface RunOptions extends Effort, Shape, Handles {
  /** The number of handles that are held by processes of their own. */
  readonly processes: number;
}

const LONGEST_SHRINKING_MS = 30_000;
const PROGRESS_MS = 5_000;
/** A race need not end the same way when it is repeated. */
const ATTEMPTS = 5;

type Sequence = Iterable<ModelCommand>;

/**
 * Generates sequences of commands for fast-check's model runner. The model has the possible states of each storage,
 * in the order of the storages. The answers of the calls that a command makes at the same time must be those of the
 * model for some order of the calls, and for one of the possible states; the states that explain the answers are
 * possible from then on. When calls are made one by one, every storage must give the same answers, with the same
 * errors.
 */
function sequencesOf(shape: Shape, tried: Tried) {
  const batches = batchesOf(shape).map((batches) => new BatchCommand(batches, shape, tried));
  const command: fc.Arbitrary<ModelCommand> = shape.incidents
    ? fc.oneof({ weight: 12, arbitrary: batches }, { weight: 1, arbitrary: incident })
    : batches;
  // A sequence is repeated by its seed and path alone.
  return fc.commands([command], { maxCommands: shape.commands, size: 'max', disableReplayLog: true });
}

/**
 * Tries random sequences, each on new storages: one of every harness. At the end of a sequence, everything that a
 * storage holds is read and compared with the model.
 */
export async function tryAgainstModel(harnesses: readonly Harness[], options: RunOptions): Promise<Tried> {
  const tried: Tried = { sequences: 0, calls: 0, substantial: 0, states: 1 };
  const processes = harnesses.map(() => Array.from({ length: options.processes }, () => new ModelProcess()));
  const audit = AUDIT.map((call) => new BatchCommand([{ after: 0, calls: [{ handle: 0, call }] }], options, tried));

  const attempt = async (sequence: Sequence) => {
    const storages: StorageUnderTest[] = [];
    try {
      await fc.asyncModelRun(async () => {
        for (const [index, harness] of harnesses.entries()) {
          storages.push(await StorageUnderTest.create(harness, processes[index] ?? [], options));
        }
        const model = storages.map(({ now }) => ({ states: [new DeviceModel(new ModelClock(now), MODEL_BUDGETS)] }));
        return { model, real: storages };
      }, [...sequence, ...audit]);
    } catch (error) {
      // The failure is reported, not what follows from it.
      for (const storage of storages) await storage.destroy().catch(() => undefined);
      throw error;
    }
    for (const storage of storages) await storage.destroy();
  };

  try {
    const attempts = options.atOnce === 1 ? 1 : ATTEMPTS;
    return await trySequences(sequencesOf(options, tried), attempt, { ...options, attempts, tried });
  } finally {
    for (const child of processes.flat()) child.end();
  }
}

/**
 * Tries random sequences. Counts them in `tried`, which it returns.
 * @throws when a sequence fails, after shrinking it; the command that repeats it is on stderr before that.
 */
export async function trySequences<S>(
  sequences: fc.Arbitrary<S>,
  attempt: (sequence: S) => Promise<void>,
  options: Effort & { readonly attempts: number; readonly tried: Tried },
): Promise<Tried> {
  const { name, path, seed = Math.trunc(Math.random() * 2 ** 31), attempts, tried } = options;
  const progress = progressOf(tried, options, seed);
  const once = fc.asyncProperty(sequences, async (sequence) => {
    await attempt(sequence);
    tried.sequences += 1;
    progress();
  });
  let deadline = Number.POSITIVE_INFINITY;
  const again = fc.asyncProperty(sequences, async (sequence) => {
    // After the deadline nothing fails any more, so that the shortest sequence so far is reported.
    if (performance.now() > deadline) return;
    for (let time = 0; time < attempts; time += 1) await attempt(sequence);
  });
  const shrink = (found: { readonly seed: number; readonly path: string }) => {
    deadline = performance.now() + LONGEST_SHRINKING_MS;
    return fc.check(again, { numRuns: 1, ...found });
  };

  if (path !== undefined) {
    const shrunk = await shrink({ seed, path });
    if (shrunk.failed) throw new Error(reportOf(shrunk));
    return { ...tried, sequences: 1 };
  }
  const first = await fc.check(once, { numRuns: options.sequences, seed, endOnFailure: true });
  if (!first.failed) return tried;
  const repeat = `npm run model -- --run ${name} --seed ${seed} --path ${first.counterexamplePath}`;
  process.stderr.write(
    `Model: ${name} failed after ${tried.sequences} sequences. To repeat it: ${repeat}\n` +
      `${String(first.counterexample?.[0])}\n${messageOf(first)}\n`,
  );
  if (first.errorInstance instanceof NoAnswerError) throw first.errorInstance;
  const shrunk = await shrink({ seed, path: first.counterexamplePath ?? '0' });
  throw new Error(`${reportOf(shrunk.failed ? shrunk : first)}\nTo repeat it: ${repeat}`);
}

function reportOf<S>(details: fc.RunDetails<[sequence: S]>): string {
  return `${fc.defaultReportMessage(details)}\n${messageOf(details)}`;
}

function messageOf({ errorInstance }: { readonly errorInstance: unknown }): string {
  return errorInstance instanceof Error ? errorInstance.message : String(errorInstance);
}

function progressOf(tried: Tried, { name, sequences, progress }: Effort, seed: number): () => void {
  const began = performance.now();
  let lastPrinted = began;
  return () => {
    if (!progress || performance.now() - lastPrinted < PROGRESS_MS) return;
    lastPrinted = performance.now();
    const seconds = Math.round((lastPrinted - began) / 1_000);
    process.stderr.write(
      `Model: ${name}: ${tried.sequences} of ${sequences} sequences, ${tried.calls} calls, ${seconds} s; --seed ${seed}\n`,
    );
  };
}
