// `npm run build`, and the first step of every other script: generates gen/ from proto/ when proto/ changed, compiles everything
// into dist/, and removes from dist/ what has no source any more. Prints to stderr only. Safe when several run at once.
// npm also runs it as the script "dependencies" after it has installed the packages of this repository, but not for those who
// install the package.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, globSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';

const root = dirname(import.meta.dirname);
const bin = join(root, 'node_modules/.bin');
const lock = join(root, 'node_modules/.aqm-build.lock');
/** The age in milliseconds at which a lock counts as left by a process that was killed. */
const LONGEST_BUILD_MS = 300_000;
const stamp = join(root, 'gen/.proto-hash');

// After `npm prune --omit=dev` nothing can be built, and what was built stays.
if (process.env.npm_lifecycle_event === 'dependencies' && !existsSync(join(bin, 'tsc'))) process.exit();

if (Number.parseInt(process.versions.node, 10) < 24) {
  console.error(
    `AQM needs Node 24 or newer; this is ${process.version}. Use the npm scripts, which bring their own Node 24.`,
  );
  process.exit(1);
}

await takeLock();
try {
  generate();
  run('tsc', ['--project', 'tsconfig.json']);
  copyAssets();
  inlineTexts('device/sqlite/migrations', 'device/sqlite/migration-texts', 'MIGRATION_TEXTS');
  inlineTexts('device/redis/scripts', 'device/redis/script-texts', 'SCRIPT_TEXTS');
  removeStale();
  recordCommit();
  chmodSync(join(root, 'dist/services/coin/aqm.js'), 0o755);
} catch (error) {
  // The tool printed what is wrong.
  process.exitCode = error.status ?? 1;
  if (error.status === undefined) console.error(error);
} finally {
  rmSync(lock, { force: true });
}

function generate() {
  const hash = createHash('sha256');
  const inputs = ['buf.yaml', 'buf.gen.yaml', 'package-lock.json', 'build/protoc-gen-coin-categories.mjs'];
  for (const file of [...inputs, ...globSync('{proto,services}/**/*.proto', { cwd: root }).sort()]) {
    hash.update(file).update(readFileSync(join(root, file)));
  }
  const wanted = hash.digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  run('buf', ['generate']);
  // ts-proto also writes the files that are imported only for their options.
  rmSync(join(root, 'gen/buf'), { recursive: true, force: true });
  writeFileSync(stamp, wanted);
}

/** Copies the files that the compiled service reads beside itself. */
function copyAssets() {
  for (const file of globSync('services/**/*.{sql,lua,html,css,mjs}', { cwd: root })) {
    writeIfChanged(join(root, 'dist', file), readFileSync(join(root, file), 'utf8'));
  }
}

/**
 * Replaces the compiled `module`, which reads the texts of a folder, with one that holds them: applications bundle the
 * device library into one file.
 */
function inlineTexts(folder, module, name) {
  const files = globSync(`${folder}/*.{sql,lua}`, { cwd: root }).sort();
  // The image of the service is built without the device library.
  if (files.length === 0) return;
  const texts = Object.fromEntries(files.map((file) => [basename(file), readFileSync(join(root, file), 'utf8')]));
  const code = `"use strict";\nexports.${name} = ${JSON.stringify(texts, null, 2)};\n`;
  writeIfChanged(join(root, 'dist', `${module}.js`), code);
  rmSync(join(root, 'dist', `${module}.js.map`), { force: true });
}

function writeIfChanged(target, text) {
  mkdirSync(dirname(target), { recursive: true });
  if (!existsSync(target) || readFileSync(target, 'utf8') !== text) writeFileSync(target, text);
}

/** Removes from dist/ what was made of a source that is gone: after a rename, jest and Node would still find the old modules. */
function removeStale() {
  for (const file of globSync('dist/**/*.{js,js.map,d.ts,sql,lua}', { cwd: root })) {
    const source = join(root, file.slice('dist/'.length)).replace(/(\.js|\.js\.map|\.d\.ts)$/, '.ts');
    if (!existsSync(source)) rmSync(join(root, file));
  }
}

/** Records the commit that "aqm --version" prints: BUILD_COMMIT, or that of the repository, if there is one. */
function recordCommit() {
  const file = join(root, 'dist/services/coin/commit.txt');
  const describe = ['describe', '--always', '--dirty', '--exclude=*', '--abbrev=12'];
  const { stdout } = spawnSync('git', describe, { cwd: root, encoding: 'utf8' });
  const commit = process.env.BUILD_COMMIT || (existsSync(join(root, '.git')) && stdout?.trim());
  if (commit) writeIfChanged(file, `${commit}\n`);
  else rmSync(file, { force: true });
}

function run(tool, args) {
  const path = `${bin}:${process.env.PATH}`;
  execFileSync(join(bin, tool), args, { cwd: root, stdio: ['ignore', 2, 2], env: { ...process.env, PATH: path } });
}

async function takeLock() {
  for (;;) {
    try {
      writeFileSync(lock, String(process.pid), { flag: 'wx' });
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    try {
      process.kill(Number(readFileSync(lock, 'utf8')), 0);
      if (Date.now() - statSync(lock).mtimeMs > LONGEST_BUILD_MS)
        throw new Error('another process has the id of the owner');
      await setTimeout(100);
    } catch {
      // The owner is gone, or removed its lock between the lines above.
      rmSync(lock, { force: true });
    }
  }
}
