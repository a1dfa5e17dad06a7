import { PROMISES } from './checker/breach';
import { FAULT_NAMES } from './faults';
import { failuresOf } from './history';
import type { Outcome } from './run';

/** The figures of a run, in addition to the verdict. */
export interface Figures {
  readonly seconds: number;
  readonly killsAndCuts: number;
  readonly faults: Record<string, number>;
  readonly calls: Record<string, number>;
  readonly fetches: number;
  readonly coinsFetched: number;
  /** The number of attempts at requests after the first attempt. */
  readonly repeats: number;
  readonly shortAnswers: number;
  readonly failures: Record<string, number>;
  readonly balance: Outcome['verdict']['balance'];
}

/** The maximum number of breaches that are printed per promise. The rest is only counted. */
const BREACHES_SHOWN = 5;

export function figuresOf({ recorder, verdict }: Outcome): Figures {
  const { calls, faults } = recorder;
  const ids = new Set<string>();
  let fetches = 0;
  let repeats = 0;
  let shortAnswers = 0;
  for (const call of calls) {
    if (call.kind !== 'fetch') continue;
    for (const item of call.items) {
      const id = `${call.requesterId} ${item.targetUserId} ${item.requestId}`;
      if (item.requestId !== '' && ids.has(id)) repeats++;
      ids.add(id);
      if (!item.coins) continue;
      fetches++;
      if (item.coins.length < item.count * (item.devices?.length ?? 1)) shortAnswers++;
    }
  }
  return {
    seconds: Math.round(recorder.now() / 1000),
    killsAndCuts: faults.filter(({ kind }) => FAULT_NAMES.includes(kind)).length,
    faults: Object.fromEntries(FAULT_NAMES.map((name) => [name, faults.filter(({ kind }) => kind === name).length])),
    calls: count(calls.map((call) => call.kind)),
    fetches,
    coinsFetched: verdict.balance.fetched,
    repeats,
    shortAnswers,
    failures: count(calls.flatMap(failuresOf).map(({ code, reason }) => `${code} ${reason}`.trim())),
    balance: verdict.balance,
  };
}

function count(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

/** Formats the verdict table, the breaches and the figures for people. */
export function describeOutcome(outcome: Outcome): string {
  const figures = figuresOf(outcome);
  const { balance } = figures;
  const lines = [`${'promise'.padEnd(14)}${'checked'.padStart(10)} ${''.padEnd(22)}${'breaches'.padStart(9)}`];
  for (const { promise, checked, unit, breaches } of outcome.verdict.findings) {
    const cells = [
      promise.padEnd(14),
      number(checked).padStart(10),
      ` ${unit.padEnd(22)}`,
      number(breaches.length).padStart(9),
    ];
    lines.push(`${cells.join('')}   ${PROMISES[promise]}`);
    for (const breach of breaches.slice(0, BREACHES_SHOWN)) lines.push(`    ! ${breach}`);
    if (breaches.length > BREACHES_SHOWN) lines.push(`    … and ${number(breaches.length - BREACHES_SHOWN)} more`);
  }
  lines.push(
    '',
    `${number(figures.killsAndCuts)} faults injected in ${figures.seconds} s: ${list(figures.faults)}`,
    `${number(figures.fetches)} fetches answered (${number(figures.shortAnswers)} short), ${number(figures.repeats)} repeats; calls: ${list(figures.calls)}`,
    `${number(balance.uploaded)} coins uploaded = ${number(balance.inStock)} in stock + ${number(balance.fetched)} fetched + ${number(balance.unanswered)} retired or taken by requests without an answer + ${number(balance.purged)} purged`,
    `failures: ${list(figures.failures) || 'none'}`,
  );
  return lines.join('\n');
}

export function isClean({ verdict }: Outcome): boolean {
  return verdict.findings.every((finding) => finding.breaches.length === 0);
}

function list(counts: Record<string, number>): string {
  return Object.entries(counts)
    .filter(([, value]) => value > 0)
    .map(([name, value]) => `${name} ${number(value)}`)
    .join(', ');
}

function number(value: number): string {
  return value.toLocaleString('en-US');
}
