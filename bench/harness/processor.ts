import { readFileSync } from 'node:fs';

/** Of the clock in which /proc counts processor time. */
const TICKS_PER_S = 100;

/** Processor time that a process took so far, with its children, those that have ended included; in milliseconds. */
export function treeCpuMs(pid: number): number {
  return familyOf(pid).reduce((sum, member) => sum + times(String(member)).all, 0);
}

/** The same of the children of this process that have ended. */
export function endedChildrenCpuMs(): number {
  return times('self').ended;
}

/** Resident memory of a process with its children, in MiB. Pages that they share count once for each. */
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

/** Empty for a process that is gone by now. */
function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
