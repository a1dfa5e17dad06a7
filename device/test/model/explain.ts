import { inspect } from 'node:util';
import type { DeviceModel } from './model';
import { type Answer, answerOf, type Call } from './steps';
import { textOf } from './text';

export interface Issued {
  readonly call: Call;
  readonly answer: Answer;
}

/** A state after some of the calls, and those that are left. */
interface Partly {
  readonly model: DeviceModel;
  readonly left: readonly Issued[];
}

/**
 * The states after every order of the calls that explains all answers. Orders that come to the same state with the same
 * calls left are followed once, so the work grows with the states, not with the orders: without that, a few contacts
 * whose coins were stored three at a time came to tens of thousands of comparisons for every batch.
 */
export async function explain(
  before: readonly DeviceModel[],
  issued: readonly Issued[],
  now: () => Date,
): Promise<DeviceModel[]> {
  let frontier: readonly Partly[] = before.map((model) => ({ model, left: issued }));
  for (let round = 0; round < issued.length; round += 1) {
    const next = new Map<string, Partly>();
    for (const { model, left } of frontier) {
      for (const first of withoutTwins(left)) {
        const after = model.copy();
        if (!agrees(await answerOf(after, first.call, now), first.answer)) continue;
        const rest = left.filter((other) => other !== first);
        next.set(`${after.fingerprint} ${rest.map(nameOf)}`, { model: after, left: rest });
      }
    }
    frontier = [...next.values()];
  }
  return frontier.map(({ model }) => model);
}

/** Of calls that are the same and were answered the same, one may stand for all. */
function withoutTwins(issued: readonly Issued[]): Issued[] {
  return [...new Map(issued.map((one) => [nameOf(one), one])).values()];
}

const names = new WeakMap<Issued, string>();

function nameOf(issued: Issued): string {
  const name = names.get(issued) ?? `${textOf(issued.call)}=${textOf(issued.answer)}`;
  names.set(issued, name);
  return name;
}

/** A model says which argument it refuses, not in which words. */
function agrees(model: Answer, answer: Answer): boolean {
  if ('value' in model && 'value' in answer) return textOf(model.value) === textOf(answer.value);
  return 'refused' in model && 'refused' in answer && model.refused === answer.refused;
}

export async function contradiction(model: DeviceModel | undefined, issued: readonly Issued[], now: () => Date) {
  const lines = ['No order of these calls explains their answers:'];
  for (const { call, answer } of issued) {
    const expected = model && (await answerOf(model, call, now));
    lines.push(`${JSON.stringify(call)}\n  answered ${shown(answer)}\n  the model, in this order: ${shown(expected)}`);
  }
  return lines.join('\n');
}

export function shown(answer: Answer | undefined): string {
  return inspect(answer, { depth: 5, maxArrayLength: 4, compact: true, breakLength: Number.POSITIVE_INFINITY });
}
