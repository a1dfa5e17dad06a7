import { existsSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Check, fail, ok, warn } from './check';

const MIB = 1024 * 1024;
/** Warns below this multiple of the minimum. */
const WARN_TIMES = 5;

/** Checks the free space on the disk of a folder. @param minFreeMib less than this, in MiB, is a failure */
export function checkDisk(folder: string, minFreeMib: number): Check {
  let nearest = folder;
  while (!existsSync(nearest)) nearest = dirname(nearest);
  const { bavail, bsize, blocks } = statfsSync(nearest);
  const freeMib = Math.floor((bavail * bsize) / MIB);
  const found = `${freeMib} MiB of ${Math.floor((blocks * bsize) / MIB)} MiB are free on the disk of ${folder}`;
  const advice = 'see docs/runbook.md, "Disk full"';
  if (freeMib < minFreeMib) return fail('disk', found, advice);
  return freeMib < WARN_TIMES * minFreeMib ? warn('disk', found, advice) : ok('disk', found);
}
