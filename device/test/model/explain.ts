import { inspect } from 'node:util';
import type { DeviceModel } from './model';
import { type Answer, answerOf, type Call } from './steps';
import { textOf } from './text';

/** A call that was made, and its answer. */
export interface Issued {
  readonly call: Call;
  readonly answer: Answer;
}

/** A state after some of the calls of a batch, and the calls that are left. */
interface PartialOrder {
  readonly model: DeviceModel;
  readonly left: readonly Issued[];
}

/**
 * Returns the states after every order of the calls that explains all answers; none if there is no such order. Orders
 * that lead to the same state with the same calls left are followed once, so the work grows with the number of
 * states, not of orders. Without that, a few contacts whose coins were stored three at a time cost tens of thousands
 * of comparisons for every batch.
 */
export async function explain(
  before: readonly DeviceModel[],
  issued: readonly Issued[],
  now: () => Date,
): Promise<DeviceModel[]> {
  let frontier: readonly PartialOrder[] = before.map((model) => ({ model, left: issued }));
  for (let round = 0; round < issued.length; round += 1) {
    const next = new Map<string, PartialOrder>();
    for (const { model, left } of frontier) {
      for (const first of withoutDuplicates(left)) {
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

/** Returns one call of those that are equal and have equal answers. */
function withoutDuplicates(issued: readonly Issued[]): Issued[] {
  return [...new Map(issued.map((one) => [nameOf(one), one])).values()];
}

const names = new WeakMap<Issued, string>();

function nameOf(issued: Issued): string {
  const name = names.get(issued) ?? `${textOf(issued.call)}=${textOf(issued.answer)}`;
  names.set(issued, name);
  return name;
}

/** Returns true if the answers are equal. Of a refusal, only the field is compared: the model has no messages. */
function agrees(model: Answer, answer: Answer): boolean {
  if ('value' in model && 'value' in answer) return textOf(model.value) === textOf(answer.value);
  return 'refused' in model && 'refused' in answer && model.refused === answer.refused;
}

/** Returns a report of calls whose answers no order of them explains. */
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
