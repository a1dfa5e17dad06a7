import { isDeepStrictEqual } from 'node:util';

/** A value that JSON can represent. */
export type Fact = string | number | boolean | null | readonly Fact[] | { readonly [name: string]: Fact };

/** One checked claim. */
export interface Check {
  readonly type: 'check';
  readonly claim: string;
  readonly ok: boolean;
  readonly expected: Fact;
  readonly found: Fact;
}

/** A table in the story. */
export interface Table {
  readonly type: 'table';
  readonly columns: readonly string[];
  readonly rows: readonly (readonly [name: string, ...cells: number[]])[];
}

export type StoryEvent = { readonly type: 'note'; readonly text: string } | Check | Table;

/** One step of the story. */
export interface Step {
  readonly number: number;
  /** A stable identifier for programs. */
  readonly id: string;
  readonly title: string;
  readonly explanation: string;
  readonly events: StoryEvent[];
  /** Unset while the step runs. */
  ok?: boolean;
  durationMs?: number;
}

/** Displays a story while it runs. */
export interface View {
  stepStarted(step: Step): void;
  happened(event: StoryEvent): void;
  stepEnded(step: Step): void;
}

/** A step failed. The story stops there, because later steps depend on it. */
export class StepFailedError extends Error {
  override readonly name = 'StepFailedError';

  constructor(
    readonly step: Step,
    reason: string,
    options?: ErrorOptions,
  ) {
    super(`step ${step.number} (${step.id}) did not hold: ${reason}`, options);
  }
}

/** Records everything that happens in one run of the story, as data. */
export class Journal {
  readonly steps: Step[] = [];

  constructor(
    private readonly view: View,
    private readonly clock: () => number,
  ) {}

  /** Runs one step. @throws StepFailedError if the step throws or if one of its checks does not hold */
  async step<T>(id: string, title: string, explanation: string, body: () => Promise<T>): Promise<T> {
    const step: Step = { number: this.steps.length + 1, id, title, explanation, events: [] };
    this.steps.push(step);
    this.view.stepStarted(step);
    const startedAt = this.clock();
    try {
      const result = await body();
      const broken = checksOf(step).find(({ ok }) => !ok);
      if (broken) throw new StepFailedError(step, broken.claim);
      step.ok = true;
      return result;
    } catch (error) {
      step.ok = false;
      if (error instanceof StepFailedError) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new StepFailedError(step, reason, { cause: error });
    } finally {
      step.durationMs = Math.round(this.clock() - startedAt);
      this.view.stepEnded(step);
    }
  }

  note(text: string): void {
    this.add({ type: 'note', text });
  }

  check(claim: string, found: Fact, expected: Fact): void {
    this.add({ type: 'check', claim, ok: isDeepStrictEqual(found, expected), expected, found });
  }

  table(columns: Table['columns'], rows: Table['rows']): void {
    this.add({ type: 'table', columns, rows });
  }

  private add(event: StoryEvent): void {
    const step = this.steps.at(-1);
    if (!step) throw new Error('an event must be inside a step');
    step.events.push(event);
    this.view.happened(event);
  }
}

/** Returns the checks of a step. */
export function checksOf(step: Step): Check[] {
  return step.events.filter((event) => event.type === 'check');
}
