import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { ROOT } from './root';

const CONF = join(ROOT, 'deploy/redis.conf');
const POLL_MS = 5;
const LONGEST_START_MS = 20_000;

/** A real redis-server of this process's own, with the settings that ship, on a Unix socket in a temporary folder. */
export class RedisServer {
  readonly folder = mkdtempSync(join(tmpdir(), 'aqm-redis-'));
  /** The path of its Unix socket. */
  readonly socket = join(this.folder, 'redis.sock');
  readonly #options: readonly string[];
  readonly #clients: Redis[] = [];
  #child: ChildProcess | undefined;
  /** The largest file it may write, in KiB; beyond that a write fails as on a full disk. */
  maxKiB: number | 'unlimited' = 'unlimited';

  private constructor(options: readonly string[]) {
    this.#options = options;
  }

  /** `options` come after those of the shipped file, as on the command line. */
  static async start(...options: string[]): Promise<RedisServer> {
    const server = new RedisServer(options);
    await server.restart();
    return server;
  }

  /** Starts a server that writes no file, as the rate limits use one. */
  static startInMemory(): Promise<RedisServer> {
    return RedisServer.start('--appendonly', 'no');
  }

  get url(): string {
    return `unix://${this.socket}`;
  }

  /** Starts it again on the same folder; also after kill or shutDown. Resolves when it has loaded what is there. */
  async restart(...options: string[]): Promise<void> {
    rmSync(this.socket, { force: true });
    const place = ['--port', '0', '--unixsocket', this.socket, '--dir', this.folder];
    const args = [CONF, ...place, ...this.#options, ...options];
    const shell = 'trap "" XFSZ; ulimit -f "$0"; exec redis-server "$@"';
    const blocks = this.maxKiB === 'unlimited' ? this.maxKiB : String(this.maxKiB * 2);
    const child = spawn('/bin/sh', ['-c', shell, blocks, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    // A run that ends without its clean-up leaves no server behind.
    const end = () => child.kill('SIGKILL');
    process.once('exit', end);
    child.once('exit', () => process.off('exit', end));
    let log = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (text: Buffer) => {
        log += text;
      });
    }
    const deadline = performance.now() + LONGEST_START_MS;
    while (!(await answers(this.socket))) {
      if (child.exitCode !== null || performance.now() > deadline)
        throw new Error(`redis-server did not start: ${log}`);
      await setTimeout(POLL_MS);
    }
  }

  /** As a crash does: nothing is written or answered any more. */
  kill(): Promise<void> {
    return this.#end('SIGKILL');
  }

  /** In order. */
  shutDown(): Promise<void> {
    return this.#end('SIGTERM');
  }

  /** Stops it in its tracks: connections stay, nothing is answered. kill ends that too. */
  freeze(): void {
    this.#child?.kill('SIGSTOP');
  }

  /** Goes on after freeze. */
  thaw(): void {
    this.#child?.kill('SIGCONT');
  }

  /** A client of the engine itself; closed by destroy. */
  client(): Redis {
    const client = new Redis(this.socket, { protocol: 2, enableReadyCheck: false, disableClientInfo: true });
    client.on('error', () => undefined);
    this.#clients.push(client);
    return client;
  }

  /** The append-only file's parts and every snapshot, in one. */
  filesOnDisk(): Buffer {
    const files = readdirSync(this.folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    return Buffer.concat(files.map((entry) => readFileSync(join(entry.parentPath, entry.name))));
  }

  async destroy(): Promise<void> {
    for (const client of this.#clients) client.disconnect();
    await this.kill();
    rmSync(this.folder, { recursive: true });
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  }
}

/** Whether the server is up and has loaded its file. */
async function answers(socket: string): Promise<boolean> {
  const stream = connect(socket);
  try {
    await once(stream, 'connect');
    stream.write('PING\r\n');
    const [answer] = await once(stream, 'data');
    return String(answer).startsWith('+PONG');
  } catch {
    return false;
  } finally {
    stream.destroy();
  }
}
