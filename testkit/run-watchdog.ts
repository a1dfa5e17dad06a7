import { spawn } from 'node:child_process';
import { Socket } from 'node:net';
import { join } from 'node:path';

/** Returns the folder of the embedded PostgreSQL in the folder of a run of jest. */
export function postgresFolder(folder: string): string {
  return join(folder, 'postgres');
}

/** Waits in the background for the end of this process. */
export interface Watchdog {
  /** Ends the wait: there is nothing to remove any more. */
  stop(): void;
}

/** Ends when its stdin does, which is when the process at the other end is gone; then stops PostgreSQL and removes the folder. */
const SCRIPT = `cat > /dev/null
pid=$(head -n 1 "$1/data/postmaster.pid")
if [ -n "$pid" ]; then
  kill -QUIT "$pid"
  while kill -0 "$pid"; do sleep 0.1; done
fi
rm -rf "$2"`;

/**
 * Stops the PostgreSQL of a run of jest and removes its files if this process is killed, as by Ctrl-C. A server that is left behind
 * would run until the machine is restarted.
 */
export function removeIfKilled(folder: string): Watchdog {
  // In a process group of its own, so that a Ctrl-C does not reach it.
  const child = spawn('sh', ['-c', SCRIPT, 'sh', postgresFolder(folder), folder], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  child.unref();
  if (child.stdin instanceof Socket) child.stdin.unref();
  return { stop: () => child.kill('SIGKILL') };
}
