import { spawnSync } from 'node:child_process';
import { readFileSync, realpathSync } from 'node:fs';
import { basename } from 'node:path';

/**
 * Numbers of processes are used again, soon after a reboot or in a container. So a number that was
 * read from a file says nothing about the process that has it now.
 */

/**
 * Returns a text that names one process: another process that gets the same number, now or after a
 * reboot, has another text. Returns undefined if no process has the number, or only one that has
 * ended and was not collected by its parent.
 */
export function identityOf(pid: number): string | undefined {
  if (process.platform !== 'linux') return ps(pid, 'lstart=');
  const stat = read(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  // The fields behind the program's name, which stands in parentheses and may contain any character.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state = ''] = fields;
  if ('ZX'.includes(state)) return undefined;
  // The start time, in clock ticks since the boot.
  return `${read('/proc/sys/kernel/random/boot_id')?.trim()} ${fields[19]}`;
}

/** Returns true if the process is a PostgreSQL that was started with this data folder. */
export function isPostgresOf(pid: number, data: string): boolean {
  if (process.platform !== 'linux') return ps(pid, 'args=')?.includes(`postgres -D ${data} `) ?? false;
  const [program = '', ...args] = (read(`/proc/${pid}/cmdline`) ?? '').split('\0');
  const folder = args[args.indexOf('-D') + 1];
  return basename(program) === 'postgres' && args.includes('-D') && folder !== undefined && isSame(folder, data);
}

function isSame(one: string, other: string): boolean {
  try {
    return one === other || realpathSync(one) === realpathSync(other);
  } catch {
    return false;
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** Returns one property of a process as ps, which every Unix has, prints it. */
function ps(pid: number, property: string): string | undefined {
  const { stdout } = spawnSync('ps', ['-ww', '-o', property, '-p', String(pid)], { encoding: 'utf8' });
  return stdout?.trim() || undefined;
}
