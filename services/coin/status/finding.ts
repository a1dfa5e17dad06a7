import type { Figures } from './figures';

/**
 * - `well`: no call fails, and nothing is about to.
 * - `notice`: the service is sound; what fails does so through its callers.
 * - `warning`: it serves, and something needs an operator soon.
 * - `failure`: calls fail through a fault of the service or of what it needs.
 */
export type Level = 'well' | 'notice' | 'warning' | 'failure';

/** One thing that an operator should know. */
export interface Finding {
  /** A name that does not change, for scripts. */
  readonly name: string;
  readonly level: Level;
  /** A few words. */
  readonly title: string;
  /** One or two sentences that say what is wrong and what to do. */
  readonly sentence: string;
  /** The place in the documents that says more, from the root of the repository; null: none is needed. */
  readonly document: string | null;
}

/** The most serious finding, and all of them in order. */
export interface Diagnosis extends Finding {
  readonly findings: readonly Finding[];
}

/** The state that is not in the figures. */
export interface Circumstances {
  /** False until the start is over. */
  readonly isReady: boolean;
  /** The reason for which the start waits; null: it does not. */
  readonly waitingFor: string | null;
  /** The reason of the fence; null: it is down. */
  readonly fenceReason: string | null;
  /** True while the service answers its last calls. */
  readonly isStopping: boolean;
  /** The end of the TLS certificate, in seconds since 1970; null: connections are in plain text. */
  readonly certificateEnd: number | null;
  readonly processes: number;
  /** Worker processes that do not answer. */
  readonly processesAway: number;
  /** The time, in seconds since 1970. */
  readonly time: number;
}

export interface Situation extends Circumstances {
  readonly figures: Figures;
}

/** Returns a finding if it applies; its name is the name of the rule. */
export type Rule = (situation: Situation) => Omit<Finding, 'name'> | undefined | false;

/** Names every reason of the contract that is a fault of the service or of what it needs. */
export const OUR_FAULTS = [
  'DATABASE_UNAVAILABLE',
  'FENCED',
  'TOKEN_KEYS_UNAVAILABLE',
  'LIMITS_UNAVAILABLE',
  'OVERLOADED',
  'INTERNAL',
  'DEADLINE_EXCEEDED',
  'SHUTTING_DOWN',
];

/** The table of symptoms, whose rows the findings name. */
export const MONITORING = 'docs/runbook.md#monitoring';

export const refusedBy = ({ reasons }: Figures, reason: string): number => reasons[reason] ?? 0;
export const sumOf = (figures: Figures, reasons: readonly string[]): number =>
  reasons.reduce((sum, reason) => sum + refusedBy(figures, reason), 0);
export const plural = (count: number, one: string, many: string): string => `${count} ${count === 1 ? one : many}`;
export const calls = (count: number): string => plural(count, 'call', 'calls');
export const seconds = (figures: Figures): string => `${Math.max(1, Math.round(figures.seconds))} s`;
