import { isDeepStrictEqual } from 'node:util';

/** Anything that JSON can carry. */
export type Fact = string | number | boolean | null | readonly Fact[] | { readonly [name: string]: Fact };

/** One thing that had to hold. */
export interface Check {
  readonly type: 'check';
  readonly claim: string;
  readonly ok: boolean;
  readonly expected: Fact;
  readonly found: Fact;
}

export interface Table {
  readonly type: 'table';
  readonly columns: readonly string[];
  readonly rows: readonly (readonly [name: string, ...cells: number[]])[];
}

export type StoryEvent = { readonly type: 'note'; readonly text: string } | Check | Table;

export interface Step {
  readonly number: number;
  /** Stable, for programs. */
  readonly id: string;
  readonly title: string;
  readonly explanation: string;
  readonly events: StoryEvent[];
  /** Unset while the step runs. */
  ok?: boolean;
  durationMs?: number;
}

/** Shows a story while it happens. */
export interface View {
  stepStarted(step: Step): void;
  happened(event: StoryEvent): void;
  stepEnded(step: Step): void;
}

/** The story stops at the first step that does not hold; what follows would only repeat the failure. */
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

/** Everything that happened in one run of the story, as data. */
export class Journal {
  readonly steps: Step[] = [];

  constructor(
    private readonly view: View,
    private readonly clock: () => number,
  ) {}

  /** Runs one step; throws StepFailedError when it throws or when a check in it does not hold. */
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
    if (!step) throw new Error('nothing happens outside a step');
    step.events.push(event);
    this.view.happened(event);
  }
}

export function checksOf(step: Step): Check[] {
  return step.events.filter((event) => event.type === 'check');
}
