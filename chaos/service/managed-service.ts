import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import type { TcpLink } from './tcp-link';

const LOG_LINES = 40;
const STOP_TIMEOUT_MS = 20_000;

/** Runs one coin service as a separate process, behind a TCP link that survives restarts of the process. */
export class ManagedService {
  readonly front: TcpLink;
  readonly #program: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #log: string[] = [];
  #child: ChildProcess | undefined;
  readonly #abandon = (): void => void this.#child?.kill('SIGKILL');

  /**
   * @param dist a folder of compiled code: dist/, or a copy in which a promise is broken
   * @param env its configuration; each start uses a new port
   */
  constructor(dist: string, front: TcpLink, env: NodeJS.ProcessEnv) {
    this.#program = join(dist, 'services/coin/aqm.js');
    this.front = front;
    process.once('exit', this.#abandon);
    this.#env = { ...process.env, ...env, AQM_LISTEN: '127.0.0.1:0' };
  }

  /** Starts the service, and retries while its database is unreachable. Resolves when it accepts calls. */
  async start(): Promise<void> {
    for (let tries = 0; tries < 50; tries++) {
      const child = spawn(process.execPath, [this.#program, 'serve'], {
        env: this.#env,
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      this.#child = child;
      createInterface(child.stderr).on('line', (line) => this.#remember(line));
      const ended = once(child, 'exit');
      const ready = once(createInterface(child.stdout), 'line') as Promise<[string]>;
      const first = await Promise.race([ready, ended.then(() => undefined)]);
      if (first) {
        const [host = '', port] = String(JSON.parse(first[0]).address).split(':');
        this.front.retarget({ host, port: Number(port) });
        return;
      }
      await setTimeout(200);
    }
    throw new Error(`the coin service did not start:\n${this.#log.join('\n')}`);
  }

  /** Sends SIGKILL, and resolves when the process has exited. */
  async kill(): Promise<void> {
    this.front.retarget(undefined);
    const child = this.#child;
    if (!child || hasEnded(child)) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }

  /** Sends SIGTERM, on which the service finishes its calls, and resolves when the process has exited. */
  async stop(): Promise<void> {
    const child = this.#child;
    if (!child || hasEnded(child)) return;
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    const timer = globalThis.setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await ended;
    clearTimeout(timer);
  }

  async close(): Promise<void> {
    await this.kill();
    process.off('exit', this.#abandon);
    await this.front.close();
  }

  /** The last lines of its log. */
  get log(): readonly string[] {
    return this.#log;
  }

  #remember(line: string): void {
    this.#log.push(line);
    if (this.#log.length > LOG_LINES) this.#log.shift();
  }
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}
