import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

/** Compiled; `npm test` builds it first. */
const MAIN = join(__dirname, '../../dist/demo/main.js');

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-demo-test-'));
  // Run by root, PostgreSQL becomes another user, who must be able to pass through.
  chmodSync(folder, 0o711);
});

afterEach(() => {
  // Whatever the outcome was, the demo leaves nothing behind.
  expect(readdirSync(folder)).toEqual([]);
  expect(processesOf(folder)).toEqual([]);
  rmSync(folder, { recursive: true });
});

interface Run {
  readonly child: ChildProcess;
  readonly finished: Promise<{ code: number | null; stdout: string; stderr: string }>;
}

/** The demo with its own temporary folder, and without the database that other tests use. */
function startDemo(args: string[], env: NodeJS.ProcessEnv = {}): Run {
  const { DATABASE_URL: _, ...inherited } = process.env;
  const child = spawn(process.execPath, [MAIN, ...args], {
    // Another working directory than the repository's: nothing may depend on it.
    cwd: folder,
    env: { ...inherited, TMPDIR: folder, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const finished = Promise.all([once(child, 'close'), text(child.stdout), text(child.stderr)]).then(
    ([[code], stdout, stderr]) => ({ code, stdout, stderr }),
  );
  return { child, finished };
}

/** Command lines of the processes that were started with this folder in an argument or in the environment. */
function processesOf(path: string): string[] {
  if (!existsSync('/proc/self/environ')) return [];
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((pid) => {
      try {
        const commandLine = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
        const uses = commandLine.includes(path) || readFileSync(`/proc/${pid}/environ`, 'utf8').includes(path);
        return uses ? [commandLine.replaceAll('\0', ' ')] : [];
      } catch {
        // It ended while we looked.
        return [];
      }
    });
}

it.each(['sqlite', 'redis'])('holds with %s under the devices, by one argument', async (backend) => {
  const { code, stdout } = await startDemo(['--json', '--backend', backend]).finished;
  const { ok, backend: used, finalStock } = JSON.parse(stdout);
  expect({ code, ok, used, vault: finalStock.vault }).toEqual({
    code: 0,
    ok: true,
    used: backend,
    vault: { GOLD: 0, SILVER: 0, BRONZE: 2 },
  });
});

it('holds from minting to the last stock, as one JSON document', async () => {
  const { code, stdout, stderr } = await startDemo(['--json']).finished;
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const report = JSON.parse(stdout);
  expect(report).toMatchObject({
    ok: true,
    backend: 'sqlite',
    finalStock: {
      minted: { GOLD: 5, SILVER: 6, BRONZE: 5 },
      burned: { GOLD: 5, SILVER: 6, BRONZE: 3 },
      vault: { GOLD: 0, SILVER: 0, BRONZE: 2 },
      server: { GOLD: 0, SILVER: 0, BRONZE: 1 },
      inventory: { GOLD: 0, SILVER: 0, BRONZE: 1 },
    },
  });
  expect(report.checks.broken).toBe(0);
  expect(report.steps.map(({ id, ok }: { id: string; ok: boolean }) => `${id} ${ok}`)).toEqual([
    'start-service true',
    'set-up-devices true',
    'mint-and-publish true',
    'befriend-and-top-up true',
    'three-situations true',
    'tiers-run-out true',
    'replay true',
    'stranger true',
    'final-stock true',
    'stop-service true',
  ]);
});

it('names the step that did not hold and exits with 1', async () => {
  // Port 1 of this machine: nothing listens there.
  const env = { DATABASE_URL: 'postgres://nobody@127.0.0.1:1/nothing' };
  const { code, stdout, stderr } = await startDemo([], env).finished;
  expect(code).toBe(1);
  expect(stdout).toContain('FAILED: step 1 (start-service) did not hold');
  expect(stderr).toContain('Last lines of the coin service:');
});

it('says so in JSON as well', async () => {
  const env = { DATABASE_URL: 'postgres://nobody@127.0.0.1:1/nothing' };
  const { code, stdout } = await startDemo(['--json'], env).finished;
  expect(code).toBe(1);
  expect(JSON.parse(stdout)).toMatchObject({ ok: false, failure: { step: 'start-service' } });
});

it('cleans up when it is interrupted in the middle', async () => {
  const { child, finished } = startDemo([]);
  child.stdout?.on('data', (data: Buffer) => {
    if (data.includes('Bob mints')) child.kill('SIGINT');
  });
  const { code, stdout, stderr } = await finished;
  expect(code).toBe(130);
  expect(stderr).toContain('stopped by SIGINT');
  expect(stdout).not.toContain('steps held');
});

it('refuses an unknown option with exit code 2 and says what there is', async () => {
  const { code, stdout, stderr } = await startDemo(['--backend', 'paper']).finished;
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain('Usage: npm run demo');
});
