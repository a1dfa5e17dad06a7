// The part `breaking` of `npm run check`: the contract must not break what other teams generated from it, neither since the last
// release (proto/released.binpb) nor since the parent commit.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';

const root = dirname(import.meta.dirname);

compare('proto/released.binpb');
// A tarball has no history, and the first commit no parent.
const parent = spawnSync('git', ['rev-parse', '--verify', '--quiet', 'HEAD~1'], { cwd: root });
if (parent.status === 0) compare('.git#ref=HEAD~1,subdir=proto');

function compare(against) {
  console.error(`buf breaking --against ${against}`);
  const buf = join(root, 'node_modules/.bin/buf');
  const { status } = spawnSync(buf, ['breaking', 'proto', '--against', against], { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
