import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from './package-root';

/** Identifies the running program. */
export interface Version {
  readonly version: string;
  /** The Git commit that was built, with "-dirty" if files differed from it; null if the build did not know it. */
  readonly commit: string | null;
  readonly node: string;
}

/** Reads the version of the package, and the commit that build/build.mjs recorded. */
export function readVersion(): Version {
  const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8'));
  const file = join(packageRoot(), 'dist/services/coin/commit.txt');
  const commit = existsSync(file) ? readFileSync(file, 'utf8').trim() : null;
  return { version, commit, node: process.versions.node };
}

/** Returns the same as one line. */
export function versionLine(): string {
  const { version, commit, node } = readVersion();
  return `aqm ${version}${commit === null ? '' : ` (commit ${commit})`}, Node ${node}`;
}
