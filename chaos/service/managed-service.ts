import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { type ReadyProcess, startProgram } from '../../testkit/service-process';
import type { TcpLink } from './tcp-link';

const STOP_TIMEOUT_MS = 20_000;

/** Runs one coin service as a separate process, behind a TCP link that survives restarts of the process. */
export class ManagedService {
  readonly front: TcpLink;
  readonly #program: string;
  readonly #env: NodeJS.ProcessEnv;
  #running: ReadyProcess | undefined;

  /**
   * @param dist a folder of compiled code: dist/, or a copy in which a promise is broken
   * @param env its configuration; each start uses a new port
   */
  constructor(dist: string, front: TcpLink, env: NodeJS.ProcessEnv) {
    this.#program = join(dist, 'services/coin/aqm.js');
    this.front = front;
    this.#env = { ...process.env, ...env, AQM_LISTEN: '127.0.0.1:0' };
  }

  /** Starts the service, and retries while its database is unreachable. Resolves when it accepts calls. */
  async start(): Promise<void> {
    let failure: unknown;
    for (let tries = 0; tries < 50; tries++) {
      try {
        this.#running = await startProgram(this.#program, ['serve'], this.#env);
        const [host = '', port] = this.#running.address.split(':');
        this.front.retarget({ host, port: Number(port) });
        return;
      } catch (error) {
        failure = error;
        await setTimeout(200);
      }
    }
    throw new Error('the coin service did not start', { cause: failure });
  }

  /** Sends SIGKILL, and resolves when the process has exited. */
  async kill(): Promise<void> {
    this.front.retarget(undefined);
    await this.#running?.end('SIGKILL');
  }

  /** Sends SIGTERM, on which the service finishes its calls, and resolves when the process has exited. */
  async stop(): Promise<void> {
    const timer = globalThis.setTimeout(() => void this.#running?.end('SIGKILL'), STOP_TIMEOUT_MS);
    await this.#running?.end('SIGTERM');
    clearTimeout(timer);
  }

  async close(): Promise<void> {
    await this.kill();
    await this.front.close();
  }
}
