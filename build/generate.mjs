// `npm run generate`: writes the committed files that are made from other sources. With `--check` it writes nothing, and its
// exit code is 1 when one of them differs. (gen/ is not committed: every build makes it.)
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

const root = dirname(import.meta.dirname);

/** The programs that write them, and the option with which each only compares. */
const GENERATORS = [
  { writes: 'docs/api.md', program: 'api-reference/main.mjs', check: '--check' },
  { writes: 'the types of the tables', program: 'database-types.mjs', check: '--verify' },
  { writes: 'the table of docs/configuration.md', program: 'configuration-table.mjs', check: '--check' },
];

const isCheck = process.argv.includes('--check');
let failed = 0;
for (const { writes, program, check } of GENERATORS) {
  const path = join(import.meta.dirname, program);
  if (!existsSync(path)) continue;
  console.error(`${isCheck ? 'comparing' : 'writing'} ${writes}`);
  const { status } = spawnSync(process.execPath, [path, ...(isCheck ? [check] : [])], { cwd: root, stdio: 'inherit' });
  if (status !== 0) failed += 1;
}
process.exitCode = failed === 0 ? 0 : 1;
