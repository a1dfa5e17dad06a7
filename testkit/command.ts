import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { AQM } from './service-process';

/** The exit code and the output of a finished command. */
export interface CommandResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Returns the messages of a service's log, one in each line. @throws SyntaxError if a line is not JSON */
export function logMessages(stderr: string): string {
  const lines = stderr.split('\n').filter((line) => line !== '');
  return lines.map((line) => String((JSON.parse(line) as { msg: unknown }).msg)).join('\n');
}

/** Runs one command of the compiled `aqm` and waits for its end. DATABASE_URL is empty unless `env` sets it. */
export async function runCommand(
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<CommandResult> {
  const child = spawn(process.execPath, ['--enable-source-maps', '--', AQM, command, ...args], {
    env: { ...process.env, DATABASE_URL: '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    // Ends a service that should have refused to serve, so that the test fails with its output.
    timeout: 180_000,
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (text: Buffer) => {
    stdout += text;
  });
  child.stderr.on('data', (text: Buffer) => {
    stderr += text;
  });
  const [code] = await once(child, 'close');
  return { code, stdout, stderr };
}
