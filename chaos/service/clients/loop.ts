import { setTimeout } from 'node:timers/promises';
import type { Caller } from '../caller';
import type { Failure, Millis } from '../history';
import type { Random } from '../random';
import type { Recorder } from '../recorder';
import type { Timing, Workload } from '../workload';

/** The state that all clients of a run share. */
export interface RunContext {
  readonly recorder: Recorder;
  readonly workload: Workload;
  readonly timing: Timing;
  readonly services: number;
  /** True while faults are injected. */
  faultsActive: boolean;
  stopped: boolean;
}

/** Failures that a retry does not change. */
const FINAL = [
  'INTERNAL',
  'INVALID_FIELD',
  'REQUEST_ID_REUSED',
  'DEVICE_REMOVED',
  'DEVICE_MISMATCH',
  'TOO_MANY_DEVICES',
  'CALL_TOO_LARGE',
];

/** True if the failure is transient: a retry may succeed, and it is unknown if the call took effect. */
export function isTransient(failure: Failure | undefined): boolean {
  return failure === undefined || !FINAL.includes(failure.reason);
}

export abstract class Loop {
  constructor(
    protected readonly context: RunContext,
    protected readonly caller: Caller,
    protected readonly random: Random,
  ) {}

  async run(): Promise<void> {
    while (!this.context.stopped) await this.step();
  }

  protected abstract step(): Promise<void>;

  protected anyServer(): number {
    return this.random.between(0, this.context.services - 1);
  }

  protected get deadlineMs(): Millis {
    const { timing, faultsActive } = this.context;
    return faultsActive ? timing.faultDeadlineMs : timing.calmDeadlineMs;
  }

  protected pause(maxMs: Millis): Promise<void> {
    return setTimeout(this.random.between(1, Math.max(1, maxMs)));
  }
}
