import type { Call, LoadPhase } from '../harness/callers';

/** The calls that were due in one second of a phase. */
export interface Second {
  readonly answered: number;
  readonly rejected: number;
  readonly other: number;
  /** p99 latency of the answered calls, in milliseconds. */
  readonly p99: number;
}

/** Percentiles of durations, in milliseconds. */
export interface Distribution {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** The measurements of one phase of load. */
export interface Phase {
  readonly perSecond: number;
  readonly seconds: readonly Second[];
  /** Calls that were admitted and answered with a coin, per second. */
  readonly goodput: number;
  readonly answered: Distribution;
  /** Latency of rejected calls as the caller sees it. */
  readonly rejected: Distribution;
  /** Calls that were neither answered nor rejected, by outcome. */
  readonly others: Readonly<Record<string, number>>;
}

export interface OverloadResult {
  readonly settings: Readonly<Record<string, string>>;
  /** Answered calls per second under closed-loop load that keeps the service busy. */
  readonly capacity: number;
  readonly before: Phase;
  readonly overload: Phase;
  readonly after: Phase;
  /** Duration of rejected calls from arrival to answer, as the service logged it. */
  readonly rejectedByServer: Distribution;
  /**
   * The time from the end of the overload to the last call that failed or took longer than twice the earlier p99, in
   * milliseconds.
   */
  readonly recoveryMs: number;
  /** The average number of busy cores during the overload. */
  readonly cores: { readonly generator: number; readonly service: number };
}

export function distribution(values: readonly number[]): Distribution {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? 0 };
}

export function phaseOf(calls: readonly Call[], { perSecond, ms }: LoadPhase): Phase {
  const seconds = Array.from({ length: Math.ceil(ms / 1000) }, (_, second): Second => {
    const due = calls.filter(({ at }) => Math.floor(at / 1000) === second);
    const answered = due.filter(({ outcome }) => outcome === 'answered');
    const rejected = due.filter(({ outcome }) => outcome === 'rejected').length;
    const p99 = distribution(answered.map((call) => call.ms)).p99;
    return { answered: answered.length, rejected, other: due.length - answered.length - rejected, p99 };
  });
  const durations = (outcome: string) => calls.filter((call) => call.outcome === outcome).map((call) => call.ms);
  const others: Record<string, number> = {};
  for (const { outcome } of calls) {
    if (outcome !== 'answered' && outcome !== 'rejected') others[outcome] = (others[outcome] ?? 0) + 1;
  }
  const answered = distribution(durations('answered'));
  return {
    perSecond,
    seconds,
    goodput: (answered.count * 1000) / ms,
    answered,
    rejected: distribution(durations('rejected')),
    others,
  };
}

/** Returns the requirements as sentences. One that is not met begins with NOT. */
export function verdicts(
  { capacity, overload, rejectedByServer, recoveryMs, cores }: OverloadResult,
  boundMs: number,
): string[] {
  const share = overload.goodput / capacity;
  const verdict = (holds: boolean, sentence: string) => `${holds ? '' : 'NOT '}${sentence}`;
  return [
    verdict(share >= 0.8, `goodput is 80 % of capacity or more: ${(100 * share).toFixed(0)} %`),
    verdict(
      overload.answered.p99 <= boundMs,
      `p99 of admitted calls is at most ${boundMs} ms: ${overload.answered.p99.toFixed(0)} ms`,
    ),
    verdict(
      Object.keys(overload.others).length === 0,
      `every call is answered or rejected by load shedding: other outcomes ${JSON.stringify(overload.others)}`,
    ),
    verdict(
      rejectedByServer.max < 50,
      `rejected calls are answered in under 50 ms: ${rejectedByServer.max.toFixed(1)} ms at most`,
    ),
    verdict(recoveryMs < 5000, `the service recovers within 5 s: ${recoveryMs.toFixed(0)} ms`),
    verdict(cores.generator < 0.5, `the load generator takes less than half a core: ${cores.generator.toFixed(2)}`),
  ];
}

/** Formats the result as a table. @param times the overload as a multiple of capacity */
export function table(result: OverloadResult, times: number): string {
  const row = (...cells: (string | number)[]) =>
    cells.map((cell, index) => (index === 0 ? String(cell).padEnd(26) : String(cell).padStart(13))).join('');
  const phase = (name: string, { perSecond, goodput, answered, rejected }: Phase) =>
    row(
      name,
      perSecond.toFixed(0),
      goodput.toFixed(0),
      `${((100 * goodput) / result.capacity).toFixed(0)} %`,
      answered.p50.toFixed(0),
      answered.p99.toFixed(0),
      rejected.count,
      rejected.p99.toFixed(1),
    );
  const { rejectedByServer, cores } = result;
  return [
    `capacity ${result.capacity.toFixed(0)}/s with ${JSON.stringify(result.settings)}`,
    row('', 'calls/s', 'answered/s', 'of capacity', 'p50 ms', 'p99 ms', 'rejected', 'rej. p99 ms'),
    phase('half of capacity', result.before),
    phase(`${times} times capacity`, result.overload),
    phase('half of capacity again', result.after),
    `rejections as the service measured them: ${rejectedByServer.count}, p50 ${rejectedByServer.p50.toFixed(2)} ms, p99 ${rejectedByServer.p99.toFixed(2)} ms, max ${rejectedByServer.max.toFixed(2)} ms`,
    `cores: load generator ${cores.generator.toFixed(2)}, service ${cores.service.toFixed(2)}`,
  ].join('\n');
}
