import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { compiled } from './root';
import type { TestService } from './service';

/** The compiled program `aqm`. */
export const AQM = compiled('services/coin/aqm');

/** A process that has said "ready". */
export interface ReadyProcess {
  /** The address in its "ready" line. */
  readonly address: string;
  readonly child: ChildProcess;
  /** Resolves at its end with the exit code; with null after a signal that killed it. */
  readonly exited: Promise<number | null>;
  /** Returns what it has written to stderr. */
  log(): string;
  /** Sends it a signal unless it has ended, and waits for its end. */
  end(signal: NodeJS.Signals): Promise<number | null>;
}

export interface ServiceProcess extends ReadyProcess {
  readonly dataDir: string;
  /** Ends it in order (SIGTERM) and removes its data folder. @returns the exit code */
  stop(): Promise<number | null>;
}

/**
 * Starts a process and waits for its "ready" line on stdout.
 * @throws with what it wrote to stderr if it ends before
 */
export async function startProcess(
  program: string,
  args: readonly string[],
  options: Omit<SpawnOptions, 'stdio'>,
): Promise<ReadyProcess> {
  const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  child.stderr?.on('data', (text: Buffer) => {
    log += text;
  });
  // A run that ends without its clean-up leaves no process behind.
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  const exited = once(child, 'exit').then(([code]: (number | null)[]) => {
    process.off('exit', kill);
    return code ?? null;
  });
  const ended = exited.then(() => Promise.reject(new Error(`The process ended before it was ready: ${log}`)));
  const address = await Promise.race([readyAddress(child), ended]);
  ended.catch(() => {});
  return {
    address,
    child,
    exited,
    log: () => log,
    end(signal) {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      return exited;
    },
  };
}

/** Starts a compiled program with this Node. Its stack traces name the sources. */
export function startProgram(program: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<ReadyProcess> {
  return startProcess(process.execPath, ['--enable-source-maps', program, ...args], { env });
}

async function readyAddress({ stdout }: ChildProcess): Promise<string> {
  if (!stdout) throw new Error('The process has no stdout.');
  return new Promise((resolve) => {
    createInterface(stdout).on('line', (line) => {
      if (line.includes('"msg":"ready"')) resolve(JSON.parse(line).address);
    });
  });
}

/** Starts the compiled service as operators do, on the database and with the token key of a test service. */
export async function spawnService(service: TestService, env: NodeJS.ProcessEnv = {}): Promise<ServiceProcess> {
  const dataDir = mkdtempSync(join(tmpdir(), 'aqm-service-'));
  const keyFile = join(dataDir, 'public-key.pem');
  writeFileSync(keyFile, createPublicKey(service.privateKey).export({ type: 'spki', format: 'pem' }));
  // A busy machine is no reason to refuse calls, unless a test is about that.
  const unhurried = { AQM_MAX_WAIT_MS: '60000' };
  return spawnMain(dataDir, { ...service.database.env, ...unhurried, AQM_TOKEN_PUBLIC_KEY_FILE: keyFile, ...env });
}

/** Starts the compiled service with this environment. */
export function spawnMain(dataDir: string, env: NodeJS.ProcessEnv): Promise<ServiceProcess> {
  return spawnProgram(AQM, dataDir, env, ['serve']);
}

/** Starts a compiled program that says "ready" as the service does. */
export async function spawnProgram(
  program: string,
  dataDir: string,
  env: NodeJS.ProcessEnv,
  args: readonly string[] = [],
): Promise<ServiceProcess> {
  const ready = await startProgram(program, args, {
    ...process.env,
    DATABASE_URL: '',
    AQM_LISTEN: '127.0.0.1:0',
    AQM_DATA_DIR: dataDir,
    AQM_LIMITS: 'off',
    ...env,
  });
  return {
    ...ready,
    dataDir,
    stop: async () => {
      const code = await ready.end('SIGTERM');
      rmSync(dataDir, { recursive: true, force: true });
      return code;
    },
  };
}
