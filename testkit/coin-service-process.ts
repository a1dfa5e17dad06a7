import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePorts } from './free-port';
import { AQM, startProgram } from './service-process';

/** The real coin service in a process of its own, with its own PostgreSQL in a temporary folder. */
export interface CoinServiceProcess {
  readonly address: string;
  /** One token per user, valid for an hour. */
  tokens(...users: string[]): string[];
  /** As a crash does. */
  kill(): Promise<void>;
  /** On the same address and folder. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export async function startCoinService(): Promise<CoinServiceProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-device-service-'));
  const env = { ...process.env, AQM_DATA_DIR: folder, AQM_LIMITS: 'off', DATABASE_URL: '' };
  // Not a port of outgoing connections: one of those could take it before a restart.
  const [port] = await freePorts(1);
  let running = await serve(env, `127.0.0.1:${port}`);
  const { address } = running;
  return {
    address,
    tokens(...users) {
      const args = users.flatMap((user) => ['--user', user]);
      const output = execFileSync(process.execPath, [AQM, 'token', ...args], { env });
      return output.toString().trim().split('\n');
    },
    async kill() {
      await running.end('SIGKILL');
    },
    async restart() {
      running = await serve(env, address);
    },
    async stop() {
      await running.end('SIGTERM');
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

const serve = (env: NodeJS.ProcessEnv, listen: string) => startProgram(AQM, ['serve'], { ...env, AQM_LISTEN: listen });
