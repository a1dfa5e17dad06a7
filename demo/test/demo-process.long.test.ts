import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { eventually } from '../../testkit/eventually';
import { compiled } from '../../testkit/root';

const MAIN = compiled('demo/main');

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-demo-test-'));
  // PostgreSQL changes to another user if root starts it, and that user must be able to enter the folder.
  chmodSync(folder, 0o711);
});

afterEach(async () => {
  // The demo leaves neither files nor processes, whatever its outcome was. A process may need a moment to exit.
  await eventually('no process of the demo is left', () => processesOf(folder).length === 0);
  expect(readdirSync(folder)).toEqual([]);
  rmSync(folder, { recursive: true });
});

interface Run {
  readonly child: ChildProcess;
  readonly finished: Promise<{ code: number | null; stdout: string; stderr: string }>;
}

/** Starts the demo with its own temporary folder, and without the database that other tests use. */
function startDemo(args: string[], env: NodeJS.ProcessEnv = {}): Run {
  const { DATABASE_URL: _, ...inherited } = process.env;
  const child = spawn(process.execPath, [MAIN, ...args], {
    // The working directory is not the repository's: nothing may depend on that.
    cwd: folder,
    env: { ...inherited, TMPDIR: folder, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const finished = Promise.all([once(child, 'close'), text(child.stdout), text(child.stderr)]).then(
    ([[code], stdout, stderr]) => ({ code, stdout, stderr }),
  );
  return { child, finished };
}

/** Returns the command lines of the processes that have this folder in an argument or in the environment. */
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
        // The process has exited meanwhile.
        return [];
      }
    });
}

it('succeeds with devices on Redis, chosen by one argument', async () => {
  const { code, stdout } = await startDemo(['--json', '--backend', 'redis']).finished;
  const { ok, backend: used, finalStock } = JSON.parse(stdout);
  expect({ code, ok, used, vault: finalStock.vault }).toEqual({
    code: 0,
    ok: true,
    used: 'redis',
    vault: { GOLD: 0, SILVER: 0, BRONZE: 2 },
  });
});

it('succeeds from minting to the final stock, and prints one JSON document', async () => {
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
    'both-devices true',
    'lost-laptop true',
    'replay true',
    'stranger true',
    'final-stock true',
    'stop-service true',
  ]);
});

it('names the step that failed and exits with 1', async () => {
  // Nothing listens on port 1 of this machine.
  const env = { DATABASE_URL: 'postgres://user@127.0.0.1:1/none' };
  const { code, stdout, stderr } = await startDemo([], env).finished;
  expect(code).toBe(1);
  expect(stdout).toMatch(/FAILED: step 1 \(start-service\)/);
  expect(stderr).toContain('of the coin service:');
});

it('names the failed step in JSON as well', async () => {
  const env = { DATABASE_URL: 'postgres://user@127.0.0.1:1/none' };
  const { code, stdout } = await startDemo(['--json'], env).finished;
  expect(code).toBe(1);
  expect(JSON.parse(stdout)).toMatchObject({ ok: false, failure: { step: 'start-service' } });
});

it('cleans up when it is interrupted in the middle', async () => {
  const { child, finished } = startDemo([]);
  child.stdout?.on('data', (data: Buffer) => {
    if (data.includes('phone mints')) child.kill('SIGINT');
  });
  const { code, stdout, stderr } = await finished;
  expect(code).toBe(130);
  expect(stderr).toContain('stopped by SIGINT');
  expect(stdout).not.toContain('steps held');
});

it('refuses an unknown option with exit code 2, and prints its usage', async () => {
  const { code, stdout, stderr } = await startDemo(['--backend', 'paper']).finished;
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain('Usage: npm run demo');
});
