import { existsSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Check, fail, ok, warn } from './check';

const MIB = 1024 * 1024;
/** Below so many times the least there is a warning. */
const WARN_TIMES = 5;

/** Room on the disk of a folder. @param leastMib below it, in MiB, is too little */
export function checkDisk(folder: string, leastMib: number): Check {
  let nearest = folder;
  while (!existsSync(nearest)) nearest = dirname(nearest);
  const { bavail, bsize, blocks } = statfsSync(nearest);
  const freeMib = Math.floor((bavail * bsize) / MIB);
  const found = `${freeMib} MiB of ${Math.floor((blocks * bsize) / MIB)} MiB are free at ${folder}`;
  const advice = 'docs/runbook.md, "Disk full"';
  if (freeMib < leastMib) return fail('disk', found, advice);
  return freeMib < WARN_TIMES * leastMib ? warn('disk', found, advice) : ok('disk', found);
}
