import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const BUILT_SERVICE = resolve(__dirname, '../../dist/services/coin');

/** The real coin service in a process of its own, with its own PostgreSQL in a temporary folder. */
export interface CoinServiceProcess {
  readonly address: string;
  /** One token per user, valid for an hour. */
  tokens(...users: string[]): string[];
  stop(): Promise<void>;
}

export async function startCoinService(): Promise<CoinServiceProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-device-service-'));
  const env = { ...process.env, AQM_LISTEN: '127.0.0.1:0', AQM_DATA_DIR: folder, AQM_LIMITS: 'off', DATABASE_URL: '' };
  const child = spawn(process.execPath, [join(BUILT_SERVICE, 'main.js')], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  child.stderr.on('data', (text: Buffer) => {
    log += text;
  });
  const exited = once(child, 'exit');
  const ended = exited.then(() => Promise.reject(new Error(`The coin service ended: ${log}`)));
  ended.catch(() => undefined);
  const [ready] = (await Promise.race([once(createInterface(child.stdout), 'line'), ended])) as [string];
  return {
    address: JSON.parse(ready).address,
    tokens(...users) {
      const args = users.flatMap((user) => ['--user', user]);
      const output = execFileSync(process.execPath, [join(BUILT_SERVICE, 'token-command.js'), ...args], { env });
      return output.toString().trim().split('\n');
    },
    async stop() {
      child.kill('SIGTERM');
      await exited;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
