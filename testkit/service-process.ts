import { type ChildProcess, spawn } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { compiled } from './root';
import type { TestService } from './service';

/** The program. */
export const AQM = compiled('services/coin/aqm');

export interface ServiceProcess {
  readonly address: string;
  readonly child: ChildProcess;
  readonly dataDir: string;
  /** What it wrote to stderr so far. */
  log(): string;
  /** SIGTERM. @returns the exit code */
  stop(): Promise<number | null>;
}

/** The compiled service as operators start it, on the database and with the token key of a test service. */
export async function spawnService(service: TestService, env: NodeJS.ProcessEnv = {}): Promise<ServiceProcess> {
  const dataDir = mkdtempSync(join(tmpdir(), 'aqm-service-'));
  const keyFile = join(dataDir, 'public-key.pem');
  writeFileSync(keyFile, createPublicKey(service.privateKey).export({ type: 'spki', format: 'pem' }));
  // A slow machine is no reason to shed, unless that is what a test is about.
  const patience = { AQM_MAX_WAIT_MS: '60000' };
  return spawnMain(dataDir, { ...service.database.env, ...patience, AQM_TOKEN_PUBLIC_KEY_FILE: keyFile, ...env });
}

/** The compiled service with this environment; waits for its "ready". */
export function spawnMain(dataDir: string, env: NodeJS.ProcessEnv): Promise<ServiceProcess> {
  return spawnProgram(AQM, dataDir, env, ['serve']);
}

/** The same for another program that says "ready" as the service does. */
export async function spawnProgram(
  program: string,
  dataDir: string,
  env: NodeJS.ProcessEnv,
  args: readonly string[] = [],
): Promise<ServiceProcess> {
  const child = spawn(process.execPath, [program, ...args], {
    env: {
      ...process.env,
      DATABASE_URL: '',
      AQM_LISTEN: '127.0.0.1:0',
      AQM_DATA_DIR: dataDir,
      AQM_LIMITS: 'off',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  child.stderr.on('data', (text: Buffer) => {
    log += text;
  });
  const exited = once(child, 'exit');
  const [first] = await Promise.race([
    once(createInterface(child.stdout), 'line') as Promise<[string]>,
    exited.then(() => Promise.reject(new Error(`the service ended before it was ready: ${log}`))),
  ]);
  return {
    address: JSON.parse(first).address,
    child,
    dataDir,
    log: () => log,
    stop: async () => {
      child.kill('SIGTERM');
      const [code] = await exited;
      rmSync(dataDir, { recursive: true, force: true });
      return code;
    },
  };
}
