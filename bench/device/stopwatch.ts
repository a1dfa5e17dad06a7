/** Durations of one operation, in milliseconds. */
export interface Timing {
  readonly runs: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
}

/** An operation's durations, and those of the engine's own step, taken in turn with it. */
export interface PairedTiming extends Timing {
  readonly raw: Timing;
}

/** Runs that are not counted, for the just-in-time compiler. */
const WARM_UP = 20;

/**
 * Runs `raw` and `operation` in turn and times each, so that both meet the same moods of the machine. `prepare` makes
 * what the run needs, off the clock.
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
    // Whoever goes first also pays for what the preparation pushed out of the processor's caches.
    const rawFirst = run % 2 === 0;
    if (rawFirst) ofRaw.push(await stop(raw));
    durations.push(await stop(() => operation(input)));
    if (!rawFirst) ofRaw.push(await stop(raw));
  }
  return { ...toTiming(durations.slice(WARM_UP)), raw: toTiming(ofRaw.slice(WARM_UP)) };
}

/** Milliseconds. */
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
