import { inspect, isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { type Fixture, type Harness, withFixture } from '../conformance/harness';
import { DeviceModel } from './model';
import { type Answer, AUDIT, answerOf, type Call, call, MODEL_BUDGETS, type Target, timeStep } from './model-commands';

/** Calls that are issued at once, each on one of the handles. */
interface Batch {
  /** How far the clock moves before. */
  readonly after: number;
  readonly calls: readonly { readonly handle: number; readonly call: Call }[];
}

export interface RunOptions {
  readonly sequences: number;
  readonly batches: number;
  readonly handles: number;
  /** The most calls at once. 1: each answer is known before the next call, so there is one order to explain it by. */
  readonly atOnce: number;
  readonly seed: number | undefined;
  /** After that, shrinking ends with the shortest sequence that was found. */
  readonly timeLimitMs: number;
}

export interface Tried {
  sequences: number;
  calls: number;
  /** Answers other than false, null, 0, nothing and a refusal. */
  telling: number;
}

/**
 * Tries random sequences, each on a fresh storage. The answers of a batch must be those of the model for some order of
 * its calls, for one of the states that the answers so far allow.
 * @returns what was tried. Throws with seed, path and the shrunk sequence when a sequence fails.
 */
export async function tryAgainstModel(harness: Harness, options: RunOptions): Promise<Tried> {
  const { sequences, batches, handles, atOnce, seed, timeLimitMs } = options;
  const tried: Tried = { sequences: 0, calls: 0, telling: 0 };
  const any = fc.array(fc.record({ handle: fc.nat(handles - 1), call }), {
    minLength: 1,
    maxLength: atOnce,
    size: 'max',
  });
  // The same from every handle: at most one of them may burn a key, store it, or be the one that gets the last coin.
  const same = call.map((call) => Array.from({ length: Math.min(handles, atOnce) }, (_, handle) => ({ handle, call })));
  const batch: fc.Arbitrary<Batch> = fc.record({
    after: timeStep,
    calls: fc.oneof({ weight: 2, arbitrary: any }, { weight: 1, arbitrary: same }),
  });
  const sequence = fc.array(batch, { minLength: 1, maxLength: batches, size: 'max' });
  const property = fc.asyncProperty(sequence, (sequence) =>
    withFixture(harness, (fixture) => follow(fixture, handles, sequence, tried), { budgets: MODEL_BUDGETS }),
  );
  const limits = { interruptAfterTimeLimit: timeLimitMs, markInterruptAsFailure: true };
  await fc.assert(property, { numRuns: sequences, ...(seed === undefined ? {} : { seed }), ...limits });
  return tried;
}

async function follow(fixture: Fixture, count: number, sequence: readonly Batch[], tried: Tried): Promise<void> {
  const { clock, storage, open } = fixture;
  const handles: Target[] = [storage];
  while (handles.length < count) handles.push(await open());
  let models = [new DeviceModel(clock.now, MODEL_BUDGETS)];
  const audit: readonly Batch[] = AUDIT.map((call) => ({ after: 0, calls: [{ handle: 0, call }] }));
  for (const { after, calls } of [...sequence, ...audit]) {
    clock.advance(after);
    const answers = await Promise.all(
      calls.map(({ handle, call }) => answerOf(handles[handle] ?? storage, call, clock.now)),
    );
    const issued = calls.map(({ call }, index) => ({ call, answer: answers[index] }));
    const explained = await explain(models, issued, clock.now);
    if (explained.length === 0) throw new Error(await contradiction(models[0], issued, clock.now));
    models = explained;
    tried.calls += calls.length;
    tried.telling += answers.filter(isTelling).length;
  }
  tried.sequences += 1;
}

interface Issued {
  readonly call: Call;
  readonly answer: Answer | undefined;
}

/** The states after every order of the calls that explains all answers. */
async function explain(before: readonly DeviceModel[], issued: readonly Issued[], now: () => Date) {
  const explained: DeviceModel[] = [];
  for (const start of before) {
    for (const order of ordersOf(issued)) {
      const model = start.copy();
      if (!(await gives(model, order, now))) continue;
      if (!explained.some((known) => known.isAs(model))) explained.push(model);
    }
  }
  return explained;
}

async function gives(model: DeviceModel, order: readonly Issued[], now: () => Date): Promise<boolean> {
  for (const { call, answer } of order) {
    if (!same(await answerOf(model, call, now), answer)) return false;
  }
  return true;
}

function ordersOf<T>(things: readonly T[]): T[][] {
  if (things.length < 2) return [[...things]];
  return things.flatMap((first, index) =>
    ordersOf(things.filter((_, other) => other !== index)).map((rest) => [first, ...rest]),
  );
}

function isTelling(answer: Answer): boolean {
  if ('refused' in answer || !answer.value) return false;
  return !same(answer.value, []) && !same(answer.value, { evicted: [] });
}

async function contradiction(model: DeviceModel | undefined, issued: readonly Issued[], now: () => Date) {
  const lines = ['No order of these calls explains their answers:'];
  for (const { call, answer } of issued) {
    const expected = model && (await answerOf(model, call, now));
    lines.push(`${JSON.stringify(call)}\n  answered ${shown(answer)}\n  the model, in this order: ${shown(expected)}`);
  }
  return lines.join('\n');
}

function shown(answer: Answer | undefined): string {
  return inspect(answer, { depth: 5, maxArrayLength: 8, breakLength: Number.POSITIVE_INFINITY });
}

/** Clones first: a row's arrays may come from another realm of the test runner, with prototypes of their own. */
function same(one: unknown, other: unknown): boolean {
  return isDeepStrictEqual(structuredClone(one), structuredClone(other));
}
