// Finds ghz, the load generator of the benches: on PATH, in GOBIN, in the bin folder of GOPATH. Where there is none it is
// built with Go, which takes a minute. `node build/ghz.mjs` prints where it is.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';

const MODULE = 'github.com/bojand/ghz/cmd/ghz@v0.93.0';

export const HOW_TO_GET_GHZ = `ghz is neither on PATH nor in GOBIN nor in the bin folder of GOPATH, and there is no Go to build it. Install Go (on Debian: sudo apt-get install -y golang-go) and run this again, or: go install ${MODULE}; or put the ghz of https://github.com/bojand/ghz/releases on PATH.`;

/** undefined where there is none. */
export function findGhz() {
  const goBins = [go('GOBIN'), ...go('GOPATH').split(delimiter).map(binOf), binOf(join(homedir(), 'go'))];
  const folders = [...(process.env.PATH ?? '').split(delimiter), ...goBins].filter((folder) => folder !== '');
  return folders.map((folder) => join(folder, 'ghz')).find((file) => existsSync(file));
}

/** @returns where it is; undefined where Go is missing or cannot build it */
export function ensureGhz() {
  const found = findGhz();
  if (found) return found;
  if (!hasGo()) return undefined;
  console.error(`Building ghz: go install ${MODULE}`);
  spawnSync('go', ['install', MODULE], { stdio: ['ignore', 2, 2] });
  return findGhz();
}

export const hasGo = () => spawnSync('go', ['version'], { stdio: 'ignore' }).status === 0;

function go(variable) {
  const { status, stdout } = spawnSync('go', ['env', variable], { encoding: 'utf8' });
  return (status === 0 ? stdout.trim() : process.env[variable]) ?? '';
}

function binOf(folder) {
  return folder === '' ? '' : join(folder, 'bin');
}

if (import.meta.main) {
  const ghz = ensureGhz();
  if (!ghz) {
    console.error(HOW_TO_GET_GHZ);
    process.exit(1);
  }
  process.stdout.write(`${ghz}\n`);
}
