import type { PairedTiming, Timing } from './stopwatch';

/** The measurements at one number of coins. */
export interface SizeResult {
  readonly coins: number;
  readonly operations: Record<string, PairedTiming>;
  readonly diskBytes: number;
  readonly memoryBytes: number | undefined;
}

/** All measurements of one backend. */
export interface BackendResult {
  readonly backend: string;
  readonly sizes: SizeResult[];
  readonly burst: { readonly messages: Timing; readonly totalMs: number };
  readonly lookupsMs: number;
  /** Timings with `to` coins and, as `raw`, those with `from` coins, interleaved. */
  readonly growth: { readonly from: number; readonly to: number; readonly operations: Record<string, PairedTiming> };
}

/** Formats the durations per operation and size, next to those of the interleaved raw operation. */
export function table(result: BackendResult): string {
  const lines = [`\n${result.backend}`];
  for (const { coins, operations, diskBytes, memoryBytes } of result.sizes) {
    const memory = memoryBytes === undefined ? '' : `, ${megabytes(memoryBytes)} of memory`;
    lines.push(`\n  ${coins} private halves and ${coins} coins: ${megabytes(diskBytes)} on disk${memory}`);
    lines.push(row('ms', 'p50', 'p95', 'p99', 'max', 'raw p50', 'raw p99', 'p50 / raw', 'p99 / raw'));
    for (const [name, timing] of Object.entries(operations)) lines.push(timingRow(name, timing));
  }
  const { messages, totalMs } = result.burst;
  lines.push(
    `\n  five contacts, 50 messages (select, fetch, burn): ${totalMs.toFixed(0)} ms; one message p50 ${messages.p50.toFixed(2)} ms, p99 ${messages.p99.toFixed(2)} ms`,
    `  100 key look-ups and 10 coin selections: ${result.lookupsMs.toFixed(1)} ms`,
  );
  const { from, to, operations } = result.growth;
  for (const [name, { p50, raw }] of Object.entries(operations)) {
    const ratio = (p50 / raw.p50).toFixed(2);
    lines.push(
      `  ${name}, interleaved: p50 ${p50.toFixed(3)} ms with ${to} coins, ${raw.p50.toFixed(3)} with ${from}: ${ratio} times`,
    );
  }
  return lines.join('\n');
}

function timingRow(name: string, { p50, p95, p99, max, raw }: PairedTiming): string {
  const ms = [p50, p95, p99, max, raw.p50, raw.p99].map((value) => value.toFixed(3));
  return row(name, ...ms, (p50 / raw.p50).toFixed(2), (p99 / raw.p99).toFixed(2));
}

function row(name: string, ...cells: string[]): string {
  return `    ${name.padEnd(34)}${cells.map((cell) => cell.padStart(10)).join('')}`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
