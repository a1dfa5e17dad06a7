import type { Attributes, ObservableResult } from '@opentelemetry/api';

/**
 * A counter with labels. A call adds to a plain number, which takes 0.1 µs; a counter of the SDK
 * takes 0.7 µs. The SDK reads the numbers at each export. Declared label combinations start at 0,
 * so that their first event shows as an increase.
 */
export class Counter {
  readonly #labels: readonly string[];
  readonly #counts = new Map<string, { count: number; readonly attributes: Attributes }>();

  /** @param labels names of the labels, in the order in which `add` takes their values */
  constructor(...labels: string[]) {
    this.#labels = labels;
  }

  /** Declares every combination of a value of the first label with a value of the second. */
  declare(...values: (readonly string[])[]): void {
    const [first = [], second = ['']] = values;
    for (const value of first) for (const secondValue of second) this.add(0, value, secondValue);
  }

  add(amount: number, first: string, second = ''): void {
    const key = second === '' ? first : `${first}\n${second}`;
    let found = this.#counts.get(key);
    if (!found) {
      const [firstLabel = '', secondLabel = ''] = this.#labels;
      found = { count: 0, attributes: { [firstLabel]: first, ...(second !== '' && { [secondLabel]: second }) } };
      this.#counts.set(key, found);
    }
    found.count += amount;
  }

  observe(result: ObservableResult): void {
    for (const { count, attributes } of this.#counts.values()) result.observe(count, attributes);
  }
}
