/** Durations of one operation, in milliseconds. */
export interface Timing {
  readonly runs: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
}

/** The durations of an operation, and those of the interleaved raw operation. */
export interface PairedTiming extends Timing {
  readonly raw: Timing;
}

/** The number of uncounted runs, for the just-in-time compiler. */
const WARM_UP = 20;

/**
 * Runs `raw` and `operation` alternately and times each, so that both meet the same conditions of the machine.
 * `prepare` creates the input of the run and is not timed.
 */
export async function time<Input>(
  runs: number,
  raw: () => unknown,
  prepare: (run: number) => Promise<Input> | Input,
  operation: (input: Input) => unknown,
): Promise<PairedTiming> {
  const durations: number[] = [];
  const ofRaw: number[] = [];
  for (let run = 0; run < WARM_UP + runs; run++) {
    const input = await prepare(run);
    // The order alternates, because the first of the two also pays for the cache misses that the preparation caused.
    const rawFirst = run % 2 === 0;
    if (rawFirst) ofRaw.push(await stop(raw));
    durations.push(await stop(() => operation(input)));
    if (!rawFirst) ofRaw.push(await stop(raw));
  }
  return { ...toTiming(durations.slice(WARM_UP)), raw: toTiming(ofRaw.slice(WARM_UP)) };
}

/** Times one piece of work. @returns milliseconds */
export async function stop(work: () => unknown): Promise<number> {
  const start = process.hrtime.bigint();
  await work();
  return Number(process.hrtime.bigint() - start) / 1e6;
}

export function toTiming(durations: readonly number[]): Timing {
  const sorted = [...durations].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? 0;
  return { runs: sorted.length, p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1) };
}
