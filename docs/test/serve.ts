import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { withTools } from './document';

export interface Serving {
  readonly address: string;
  /** SIGTERM to the command and all that it started. */
  stop(): Promise<void>;
}

/** Runs a command that serves until it is told to stop. Rejects with its log when it ends before it says "ready". */
export async function serve(command: string, options: { cwd: string; env: NodeJS.ProcessEnv }): Promise<Serving> {
  const child = spawn('bash', ['-c', command], {
    cwd: options.cwd,
    env: withTools({ AQM_LISTEN: '127.0.0.1:0', AQM_LIMITS: 'off', ...options.env }),
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  let log = '';
  child.stderr.on('data', (text: Buffer) => {
    log += text;
  });
  const exited = once(child, 'exit');
  const address = await Promise.race([
    (async () => {
      for await (const line of createInterface(child.stdout)) {
        if (line.includes('"ready"')) return JSON.parse(line).address as string;
      }
      return undefined;
    })(),
    exited.then(() => undefined),
  ]);
  if (address === undefined) {
    await exited;
    throw new Error(`"${command}" ended before it was ready: ${log}`);
  }
  return {
    address,
    async stop() {
      process.kill(-(child.pid ?? 0), 'SIGTERM');
      await exited;
    },
  };
}
