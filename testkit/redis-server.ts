import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { ROOT } from './root';

const CONF = join(ROOT, 'deploy/redis.conf');
const POLL_MS = 5;
/** Far longer than a start takes on a busy machine. */
const LONGEST_START_MS = 120_000;

/** Runs a redis-server with the settings that we ship, on a Unix socket in a temporary folder. */
export class RedisServer {
  readonly folder = mkdtempSync(join(tmpdir(), 'aqm-redis-'));
  /** The path of its Unix socket. */
  readonly socket = join(this.folder, 'redis.sock');
  readonly #options: readonly string[];
  readonly #clients: Redis[] = [];
  #child: ChildProcess | undefined;
  #env: NodeJS.ProcessEnv = {};
  /** The maximum size of a file that it writes, in KiB. Beyond that, a write fails as it does on a full disk. */
  maxKiB: number | 'unlimited' = 'unlimited';

  private constructor(options: readonly string[]) {
    this.#options = options;
  }

  /** Starts a server. The options override those of the shipped file, as they do on the command line. */
  static async start(...options: string[]): Promise<RedisServer> {
    const server = new RedisServer(options);
    await server.restart();
    return server;
  }

  /** Starts a server that writes no file, as the rate limits use one. */
  static startInMemory(): Promise<RedisServer> {
    return RedisServer.start('--appendonly', 'no');
  }

  /** Starts a server whose wall clock `shiftClock` sets. Needs a C compiler. */
  static async startWithOwnClock(): Promise<RedisServer> {
    const server = new RedisServer([]);
    const library = join(server.folder, 'clock-shift.so');
    execFileSync('cc', ['-shared', '-fPIC', '-O2', '-o', library, join(ROOT, 'testkit/clock-shift.c')]);
    server.shiftClock(0);
    server.#env = { LD_PRELOAD: library, CLOCK_SHIFT_FILE: server.#clockFile };
    await server.restart();
    return server;
  }

  /** Sets its wall clock ahead (or behind) of the machine's by some days. */
  shiftClock(days: number): void {
    // Renamed, so that it is never read half-written.
    writeFileSync(`${this.#clockFile}.new`, String(days * 24 * 3600));
    renameSync(`${this.#clockFile}.new`, this.#clockFile);
  }

  get #clockFile(): string {
    return join(this.folder, 'clock');
  }

  get url(): string {
    return `unix://${this.socket}`;
  }

  /** Starts it on the same folder, also after kill or shutDown. Resolves when it has loaded its files. */
  async restart(...options: string[]): Promise<void> {
    rmSync(this.socket, { force: true });
    const location = ['--port', '0', '--unixsocket', this.socket, '--dir', this.folder];
    const args = [CONF, ...location, ...this.#options, ...options];
    const shell = 'trap "" XFSZ; ulimit -f "$0"; exec redis-server "$@"';
    const blocks = this.maxKiB === 'unlimited' ? this.maxKiB : String(this.maxKiB * 2);
    const child = spawn('/bin/sh', ['-c', shell, blocks, ...args], {
      env: { ...process.env, ...this.#env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    // The server must not outlive this process, also when the process exits without destroying it.
    const kill = () => child.kill('SIGKILL');
    process.once('exit', kill);
    child.once('exit', () => process.off('exit', kill));
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

  /** Kills it, as a crash does. Afterwards it writes and answers nothing. */
  kill(): Promise<void> {
    return this.#stop('SIGKILL');
  }

  /** Shuts it down in order: it saves its data first. */
  shutDown(): Promise<void> {
    return this.#stop('SIGTERM');
  }

  /** Suspends it: connections stay open, and nothing is answered until thaw or kill. */
  freeze(): void {
    this.#child?.kill('SIGSTOP');
  }

  /** Resumes it after freeze. */
  thaw(): void {
    this.#child?.kill('SIGCONT');
  }

  /** Returns a client of the server itself, which destroy closes. */
  client(): Redis {
    const client = new Redis(this.socket, { protocol: 2, enableReadyCheck: false, disableClientInfo: true });
    client.on('error', () => undefined);
    this.#clients.push(client);
    return client;
  }

  /** Returns the contents of all its files, concatenated: the parts of the append-only file and every snapshot. */
  filesOnDisk(): Buffer {
    const files = readdirSync(this.folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    return Buffer.concat(files.map((entry) => readFileSync(join(entry.parentPath, entry.name))));
  }

  /** Kills it and removes its folder. */
  async destroy(): Promise<void> {
    for (const client of this.#clients) client.disconnect();
    await this.kill();
    rmSync(this.folder, { recursive: true });
  }

  async #stop(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  }
}

/** Resolves to true if the server is up and has loaded its files. */
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
