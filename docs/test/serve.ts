import { withTools } from '../../testkit/document';
import { startProcess } from '../../testkit/service-process';

export interface Serving {
  readonly address: string;
  /** Sends SIGTERM to the command and to all processes that it started. */
  stop(): Promise<void>;
}

/**
 * Runs a shell command that serves until it is stopped, and waits for its "ready" line.
 * @throws with its log if it ends before
 */
export async function serve(command: string, options: { cwd: string; env: NodeJS.ProcessEnv }): Promise<Serving> {
  const { address, child, exited } = await startProcess('bash', ['-c', command], {
    cwd: options.cwd,
    env: withTools({ AQM_LISTEN: '127.0.0.1:0', AQM_LIMITS: 'off', ...options.env }),
    // A process group, so that a signal reaches what the shell started.
    detached: true,
  });
  return {
    address,
    async stop() {
      process.kill(-(child.pid ?? 0), 'SIGTERM');
      await exited;
    },
  };
}
