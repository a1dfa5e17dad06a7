import { readFileSync } from 'node:fs';

/** The frequency of the clock in which /proc counts processor time (USER_HZ). */
const TICKS_PER_S = 100;

/**
 * Returns the processor time of a process and its children so far, in milliseconds. Children that have ended are
 * included.
 */
export function treeCpuMs(pid: number): number {
  return familyOf(pid).reduce((sum, member) => sum + times(String(member)).all, 0);
}

/** Returns the processor time of the ended children of this process, in milliseconds. */
export function endedChildrenCpuMs(): number {
  return times('self').ended;
}

/** Returns the resident memory of a process and its children, in MiB. Shared pages count once per process. */
export function treeResidentMiB(pid: number): number {
  return familyOf(pid).reduce((sum, member) => sum + residentMiB(member), 0);
}

function residentMiB(pid: number): number {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+) kB/.exec(text)?.[1] ?? 0) / 1024;
}

function familyOf(pid: number): number[] {
  const children = read(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number);
  return [pid, ...children.flatMap(familyOf)];
}

function times(process: string): { readonly all: number; readonly ended: number } {
  const fields = (read(`/proc/${process}/stat`).split(') ')[1] ?? '').split(' ').slice(11, 15).map(Number);
  const [user = 0, system = 0, endedUser = 0, endedSystem = 0] = fields;
  const ended = ((endedUser + endedSystem) * 1000) / TICKS_PER_S;
  return { all: ((user + system) * 1000) / TICKS_PER_S + ended, ended };
}

/** Reads a file of /proc. Returns an empty text for a process that has ended. */
function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
