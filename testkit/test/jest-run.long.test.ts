import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, globSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../eventually';
import { ROOT } from '../root';

/** Needs no database. It runs on every PostgreSQL (jest.config.js). */
const PURE = 'services/coin/test/linked-list';
const WITH_DATABASE = 'services/coin/test/housekeeping.test';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-jest-run-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Starts another run of jest, whose files are in `folder`. */
function start(file: string, env: NodeJS.ProcessEnv = {}, ...args: string[]): ChildProcess {
  const jest = join(ROOT, 'node_modules/.bin/jest');
  // The files that jest has compiled, which it keeps below TMPDIR by default.
  const cache = `--cacheDirectory=${join(tmpdir(), `jest_${process.getuid?.().toString(36)}`)}`;
  return spawn(process.execPath, [jest, file, cache, ...args], {
    cwd: ROOT,
    env: { ...process.env, TMPDIR: folder, TEST_TIER: '', TEST_POOLER: '', TEST_COUNTS_FILE: '', ...env },
    stdio: 'ignore',
  });
}

async function codeOf(run: ChildProcess): Promise<number | null> {
  const [code] = await once(run, 'exit');
  return code;
}

const pidFile = () => globSync(join(folder, 'aqm-test-*/postgres/data/postmaster.pid'))[0];
const leftOver = () => readdirSync(folder).filter((name) => name.startsWith('aqm-test-'));

test('a run of pure unit tests starts no PostgreSQL, and one with a database does', async () => {
  const broken = join(folder, 'no-postgres.mjs');
  writeFileSync(broken, "export const initdb = '/bin/false';\nexport const postgres = '/bin/false';\n");
  const env = { AQM_POSTGRES_PACKAGE: broken };
  expect(await codeOf(start(PURE, env))).toBe(0);
  expect(await codeOf(start(WITH_DATABASE, env))).toBe(1);
});

test('a run whose workers ask for PostgreSQL at the same time starts one, and leaves nothing', async () => {
  expect(await codeOf(start('services/coin/test/store/housekeeping', {}, '-w', '3'))).toBe(0);
  expect(leftOver()).toEqual([]);
});

test.each(['SIGKILL', 'SIGINT'] as const)('a run that ends by %s leaves neither a server nor files', async (signal) => {
  const run = start(WITH_DATABASE);
  const ended = once(run, 'exit');
  const file = await eventually('PostgreSQL runs', () => pidFile());
  const pid = Number.parseInt(readFileSync(String(file), 'utf8'), 10);
  run.kill(signal);
  await ended;
  await eventually('nothing is left', () => leftOver().length === 0 && !existsSync(`/proc/${pid}`));
});
