import type fc from 'fast-check';
import { contradiction, explain, shown } from './explain';
import type { DeviceModel } from './model';
import type { Batch, Shape } from './sequences';
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

/** One command of a sequence, for all storages. */
export type ModelCommand = fc.AsyncCommand<readonly PossibleStates[], readonly StorageUnderTest[]>;

/** The model of one storage: the states that are possible according to all its answers so far. There is always one. */
export interface PossibleStates {
  states: readonly DeviceModel[];
  /** The states that were possible when the last backup was made, and the time that the storage trusted then. */
  backup?: { readonly states: readonly DeviceModel[]; readonly trusted: number };
}

/**
 * Lets time pass, which the coin service confirms. It passes at least up to the trusted time, which a clock that was
 * ahead by less than a day has moved: a storage that confirms an earlier time may have forgotten some of what ended
 * between the two, or not yet.
 */
export async function letPass(
  ms: number,
  { states: [state] }: PossibleStates,
  storage: StorageUnderTest,
): Promise<void> {
  await storage.pass(Math.max(ms, state?.clock.behind ?? 0));
  state?.clock.confirm();
}

/** A command makes its batches on every storage. */
export class BatchCommand implements ModelCommand {
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
    if (after > 0) await letPass(after, model, storage);
    storage.jump(jump);
    try {
      // Otherwise the handles that are not used would know an earlier trusted time than the others.
      if (model.states[0]?.clock.moves()) await storage.readClock();
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
  return !['[]', textOf({ evicted: [] }), textOf({ removed: [] })].includes(textOf(answer.value));
}
