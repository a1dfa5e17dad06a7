/** The one in the middle; 0 of none. */
export function median(numbers: readonly number[]): number {
  return percentile(
    [...numbers].sort((a, b) => a - b),
    0.5,
  );
}

/** Of sorted numbers; 0 of none. */
export function percentile(sorted: ArrayLike<number>, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

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

/** Lines of columns; the first column is text. */
export function columns(rows: readonly (readonly (string | number)[])[], width = 12): string {
  const first = Math.max(...rows.map(([name]) => String(name).length)) + 2;
  return rows
    .map((row) => row.map((cell, at) => (at === 0 ? String(cell).padEnd(first) : ` ${cell}`.padStart(width))).join(''))
    .join('\n');
}

/** A positive number of the command line. @throws when it is something else */
export function positive(name: string, text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new Error(`--${name} must be a positive number; it is "${text}"`);
  return value;
}

/** A sentence that holds; those that do not begin with NOT. */
export function verdict(holds: boolean, sentence: string): string {
  return `${holds ? '' : 'NOT '}${sentence}`;
}

/** For whoever watches; results go to stdout. */
export function progress(line: string): void {
  process.stderr.write(`${line}\n`);
}
