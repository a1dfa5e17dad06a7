import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';

/** The shipped settings of a device's Redis. The compiled demo is one folder deeper than the source. */
const CONF = join(__dirname.replace(/[\\/]dist(?=[\\/]demo$)/, ''), '../deploy/redis.conf');

/** Runs a redis-server for the devices of one run, with the shipped settings, on a Unix socket in its folder. */
export class RedisProcess {
  readonly #child: ChildProcess;
  readonly #socket: string;
  #failure: string | undefined;

  private constructor(folder: string) {
    this.#socket = join(folder, 'redis.sock');
    const args = [CONF, '--port', '0', '--unixsocket', this.#socket, '--dir', folder];
    // In its own process group, like the coin service.
    this.#child = spawn('redis-server', args, { stdio: 'ignore', detached: true });
    this.#child.on('error', () => {
      this.#failure =
        'redis-server is not on PATH (on Debian: apt-get install redis-server), and DEMO_REDIS_URL is not set';
    });
    this.#child.on('exit', (code) => {
      this.#failure ??= `redis-server ended with exit code ${code}`;
    });
    process.once('exit', this.#kill);
  }

  /** Resolves when it accepts connections. @throws with a sentence if it cannot be started */
  static async start(folder: string): Promise<RedisProcess> {
    await mkdir(folder, { mode: 0o700 });
    const redis = new RedisProcess(folder);
    while (!(await redis.#accepts())) {
      if (redis.#failure !== undefined) throw new Error(redis.#failure);
      await setTimeout(10);
    }
    return redis;
  }

  get url(): string {
    return `unix://${this.#socket}`;
  }

  async stop(): Promise<void> {
    process.off('exit', this.#kill);
    if (this.#failure !== undefined) return;
    this.#child.kill('SIGTERM');
    await once(this.#child, 'exit');
  }

  async #accepts(): Promise<boolean> {
    const connection = createConnection(this.#socket);
    try {
      await once(connection, 'connect');
      return true;
    } catch {
      return false;
    } finally {
      connection.destroy();
    }
  }

  /** The last resort if the demo itself crashes. */
  readonly #kill = (): void => {
    this.#child.kill('SIGKILL');
  };
}
