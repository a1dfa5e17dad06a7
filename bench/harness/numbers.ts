/**
 * Returns the median; of an even count the mean of the two in the middle, because rounds alternate in their order, and
 * one of the two would favour the version that is measured first or second. Returns 0 for an empty list.
 */
export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.ceil(middle) - 1] ?? 0) + (sorted[Math.floor(middle)] ?? 0)) / 2;
}

/** Returns the value at `share` (0 to 1) of an ascending list. Returns 0 for an empty list. */
export function percentile(sorted: ArrayLike<number>, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

/** Percentiles of durations, in milliseconds. */
export interface Latency {
  readonly count: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
}

export function latencyOf(durations: Iterable<number>): Latency {
  const sorted = Float64Array.from(durations).sort();
  const at = (share: number) => percentile(sorted, share);
  return { count: sorted.length, p50: at(0.5), p95: at(0.95), p99: at(0.99), max: sorted.at(-1) ?? 0 };
}

/** Formats rows as aligned columns. The first column is aligned left, the others right. */
export function columns(rows: readonly (readonly (string | number)[])[], width = 12): string {
  const first = Math.max(...rows.map(([name]) => String(name).length)) + 2;
  return rows
    .map((row) => row.map((cell, at) => (at === 0 ? String(cell).padEnd(first) : ` ${cell}`.padStart(width))).join(''))
    .join('\n');
}

/** Parses the value of a command line option. @throws if it is not a positive number */
export function positive(name: string, text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new Error(`--${name} must be a positive number; it is "${text}"`);
  return value;
}

/** Returns the sentence, with NOT in front if it does not hold. */
export function verdict(holds: boolean, sentence: string): string {
  return `${holds ? '' : 'NOT '}${sentence}`;
}

/** Prints a line of progress to stderr. Results go to stdout. */
export function progress(line: string): void {
  process.stderr.write(`${line}\n`);
}
