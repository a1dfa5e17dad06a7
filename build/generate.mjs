// `npm run generate`: writes the committed files that are made from other sources. With `--check` it writes nothing, and its
// exit code is 1 when one of them differs. (gen/ is not committed: every build makes it.)
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';

const root = dirname(import.meta.dirname);

/** Each writes with `write`. It compares with `check`, or on a copy of the file, whose path replaces the file's in `write`. */
const GENERATORS = [
  { file: 'docs/api.md', write: ['build/api-reference/main.mjs'], check: ['build/api-reference/main.mjs', '--check'] },
  {
    file: 'docs/configuration.md',
    write: ['dist/services/coin/aqm.js', 'config', '--markdown', 'docs/configuration.md'],
  },
  {
    file: 'the types of the tables',
    write: ['build/database-types.mjs'],
    check: ['build/database-types.mjs', '--verify'],
  },
  {
    file: 'alert rules and dashboards',
    write: ['dist/deploy/monitoring/main.js'],
    check: ['dist/deploy/monitoring/main.js', '--check'],
  },
];

const isCheck = process.argv.includes('--check');
let failed = 0;
for (const generator of GENERATORS.filter(({ write }) => existsSync(join(root, write[0])))) {
  console.error(`${isCheck ? 'comparing' : 'writing'} ${generator.file}`);
  const isDone = isCheck ? isUpToDate(generator) : run(generator.write);
  if (isDone) continue;
  failed += 1;
  if (isCheck) console.error(`${generator.file} is not up to date: npm run generate`);
}
process.exitCode = failed === 0 ? 0 : 1;

function isUpToDate({ file, write, check }) {
  if (check) return run(check);
  const folder = mkdtempSync(join(tmpdir(), 'aqm-generate-'));
  const copy = join(folder, basename(file));
  try {
    copyFileSync(join(root, file), copy);
    const isWritten = run(write.map((argument) => (argument === file ? copy : argument)));
    return isWritten && readFileSync(copy).equals(readFileSync(join(root, file)));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function run(args) {
  return spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' }).status === 0;
}
