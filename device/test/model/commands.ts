import fc from 'fast-check';
import { contradiction, explain, shown } from './explain';
import type { DeviceModel } from './model';
import { type Batch, batchesOf, type Shape } from './sequences';
import type { Answer } from './steps';
import type { StorageUnderTest } from './storage-under-test';
import { textOf } from './text';

/** Counts what a run has tried so far. */
export interface Tried {
  sequences: number;
  calls: number;
  /** The number of answers other than false, null, 0, nothing and a refusal. */
  substantial: number;
  /** The maximum number of states that the answers of a sequence allowed at one moment. */
  states: number;
}

/** The model of one storage: the states that are possible according to all its answers so far. There is always one. */
export interface PossibleStates {
  states: readonly DeviceModel[];
}

/**
 * Generates sequences of commands for fast-check's model runner. The model has the possible states of each storage,
 * in the order of the storages. The answers of the calls that a command makes at the same time must be those of the
 * model for some order of the calls, and for one of the possible states; the states that explain the answers are
 * possible from then on. When calls are made one by one, every storage must give the same answers, with the same
 * errors.
 */
export function sequencesOf(shape: Shape, tried: Tried) {
  const command = batchesOf(shape).map((batches) => new BatchCommand(batches, shape, tried));
  // A sequence is repeated by its seed and path alone.
  return fc.commands([command], { maxCommands: shape.commands, size: 'max', disableReplayLog: true });
}

/** A command makes its batches on every storage. */
export class BatchCommand implements fc.AsyncCommand<readonly PossibleStates[], readonly StorageUnderTest[]> {
  readonly #batches: readonly Batch[];
  readonly #shape: Pick<Shape, 'atOnce'>;
  readonly #tried: Tried;

  constructor(batches: readonly Batch[], shape: Pick<Shape, 'atOnce'>, tried: Tried) {
    this.#batches = batches;
    this.#shape = shape;
    this.#tried = tried;
  }

  check(): boolean {
    return true;
  }

  async run(models: readonly PossibleStates[], storages: readonly StorageUnderTest[]): Promise<void> {
    for (const batch of this.#batches) {
      const answers: Answer[][] = [];
      for (const [index, storage] of storages.entries()) {
        answers.push(await this.#make(batch, models[index] as PossibleStates, storage));
      }
      if (this.#shape.atOnce === 1) compare(batch.calls, answers);
    }
  }

  toString(): string {
    return JSON.stringify(this.#batches);
  }

  async #make(batch: Batch, model: PossibleStates, storage: StorageUnderTest): Promise<Answer[]> {
    const { after, jump = 0 } = batch;
    if (after > 0) {
      await storage.pass(after);
      model.states[0]?.clock.confirm();
    }
    storage.jump(jump);
    try {
      return await this.#explained(batch, model, storage);
    } finally {
      storage.jump(-jump);
    }
  }

  async #explained(batch: Batch, model: PossibleStates, storage: StorageUnderTest): Promise<Answer[]> {
    const answers = await storage.make(batch);
    const issued = batch.calls.map(({ call }, index) => ({ call, answer: answers[index] as Answer }));
    const explained = await explain(model.states, issued, storage.now);
    if (explained.length === 0) throw new Error(await contradiction(model.states[0], issued, storage.now));
    model.states = explained;
    this.#tried.states = Math.max(this.#tried.states, explained.length);
    this.#tried.calls += answers.length;
    this.#tried.substantial += answers.filter(isSubstantial).length;
    return answers;
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

function isSubstantial(answer: Answer): boolean {
  if (!('value' in answer) || !answer.value) return false;
  return !['[]', textOf({ evicted: [] })].includes(textOf(answer.value));
}
