import { readFileSync } from 'node:fs';

/** Returns the text of a file about a process in /proc; '' if the process has ended. */
export function procFile(pid: number | undefined, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8');
  } catch {
    return '';
  }
}

/** Returns the processor time of a process since its start, in milliseconds; 0 if it has ended. Steps of 10 ms. */
export function processorMs(pid: number | undefined): number {
  // The fields after the name of the program, which may contain spaces; times in hundredths of a second.
  const fields = procFile(pid, 'stat')
    .replace(/^.*\) /, '')
    .split(' ');
  return 10 * (Number(fields[11] ?? 0) + Number(fields[12] ?? 0));
}

/** Measures the part of one core that a process uses while something is done: 1 is a whole core. */
export async function whileMeasured<T>(
  pid: number | undefined,
  work: () => Promise<T>,
): Promise<{ readonly result: T; readonly busy: number }> {
  const [usedMs, start] = [processorMs(pid), performance.now()];
  const result = await work();
  return { result, busy: (processorMs(pid) - usedMs) / (performance.now() - start) };
}
