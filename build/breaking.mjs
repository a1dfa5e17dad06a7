// The part `breaking` of `npm run check`: the contract must not break what other teams generated from it, neither since the last
// release (proto/released.binpb) nor since the parent commit.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';

const root = dirname(import.meta.dirname);

/**
 * The Git object of proto/released.binpb before the baseline was reset, which happened once, before the first release
 * (docs/adr/0029-contract.md). A parent commit that has it is older than the baseline and is not compared with. The file never
 * has this content again, so every later change is compared with its parent.
 */
const BEFORE_RESET = 'e1826f6d74c5eedb9e93117acdbbadf92a1efd8e';

compare('proto/released.binpb');
// A tarball has no history, and the first commit no parent.
const parent = git('rev-parse', '--verify', '--quiet', 'HEAD~1');
const parentBaseline = git('rev-parse', '--verify', '--quiet', 'HEAD~1:proto/released.binpb');
if (parentBaseline === BEFORE_RESET) {
  console.error(
    'The parent commit is older than the baseline of the contract (docs/adr/0029-contract.md): not compared.',
  );
} else if (parent !== undefined) compare('.git#ref=HEAD~1,subdir=proto');

/** @returns what Git prints; undefined if it fails */
function git(...args) {
  const { status, stdout } = spawnSync('git', args, { cwd: root, encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
}

function compare(against) {
  console.error(`buf breaking --against ${against}`);
  const buf = join(root, 'node_modules/.bin/buf');
  const { status } = spawnSync(buf, ['breaking', 'proto', '--against', against], { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
