import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';

/** A redis-server of a test's own, on a Unix socket, without a file. */
export class RedisProcess {
  readonly #folder = mkdtempSync(join(tmpdir(), 'aqm-limits-'));
  readonly socket = join(this.#folder, 'redis.sock');
  #child: ChildProcess | undefined;

  static async start(): Promise<RedisProcess> {
    const redis = new RedisProcess();
    await redis.restart();
    return redis;
  }

  async restart(): Promise<void> {
    rmSync(this.socket, { force: true });
    const args = [
      '--port',
      '0',
      '--unixsocket',
      this.socket,
      '--dir',
      this.#folder,
      '--save',
      '',
      '--appendonly',
      'no',
    ];
    const child = spawn('redis-server', args, { stdio: 'ignore' });
    this.#child = child;
    while (!existsSync(this.socket)) {
      if (child.exitCode !== null) throw new Error('redis-server did not start');
      await setImmediate();
    }
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  /** Connections stay, nothing is answered; kill ends it. */
  freeze(): void {
    this.#child?.kill('SIGSTOP');
  }

  async destroy(): Promise<void> {
    await this.kill();
    rmSync(this.#folder, { recursive: true });
  }
}
