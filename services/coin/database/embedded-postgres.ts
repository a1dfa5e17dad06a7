import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Client } from 'pg';
import type { Logger } from 'pino';
import { type Binaries, findBinaries, spawnUnprivileged } from './embedded-binaries';

/** The time between two checks that PostgreSQL is alive, in milliseconds. */
const WATCH_INTERVAL_MS = 200;
/** The longest time that a start (with crash recovery) may take, in milliseconds. */
const START_TIMEOUT_MS = 60_000;
/**
 * The shutdown modes, each tried for `timeoutMs` before the next, harder one. "Fast" rolls back
 * open transactions and writes a checkpoint. "Immediate" leaves recovery to the next start, as a
 * crash does, and loses nothing that was committed; PostgreSQL then kills, after 5 s, those of its
 * processes that do not respond.
 */
const SHUTDOWN_MODES = [
  { mode: 'fast', signal: 'SIGINT', timeoutMs: 20_000 },
  { mode: 'immediate', signal: 'SIGQUIT', timeoutMs: 10_000 },
  { mode: 'kill', signal: 'SIGKILL', timeoutMs: 10_000 },
] as const;
const PORT = 5432;
/**
 * The longest folder of a Unix socket: the path that Linux and macOS accept, without the file's own
 * name.
 */
const MAX_SOCKET_FOLDER = 103 - `/.s.PGSQL.${PORT}`.length;

export interface EmbeddedPostgresOptions {
  readonly log: Logger;
  /** Interrupts the start, with its reason. */
  readonly stop?: AbortSignal | undefined;
  /** The npm package of the binaries; see findBinaries. */
  readonly binariesPackage?: string;
  /** Additional `name=value` settings of postgresql.conf. */
  readonly settings?: readonly string[];
  /**
   * The longest time of a fast shutdown before an immediate one, in milliseconds (default 20,000).
   */
  readonly fastStopMs?: number;
}

/**
 * A real PostgreSQL in a folder, for installations without one
 * (docs/adr/0004-embedded-postgres.md). It is created at its first use, reached through a Unix
 * socket that only its owner can open, and restarted when it dies. Several processes may share it.
 * Each registers itself in `users/`; the first starts the server, and the last stops it. Where two
 * start it at the same time, PostgreSQL's own lock file decides.
 */
export class EmbeddedPostgres {
  readonly #folder: string;
  readonly #socketFolder: string;
  readonly #binaries: Binaries;
  readonly #options: EmbeddedPostgresOptions;
  #watcher: NodeJS.Timeout | undefined;
  #starting: Promise<void> | undefined;

  private constructor(folder: string, binaries: Binaries, options: EmbeddedPostgresOptions) {
    this.#folder = folder;
    this.#binaries = binaries;
    this.#options = options;
    const inside = join(folder, 'socket');
    const outside = join(tmpdir(), `aqm-${createHash('sha256').update(folder).digest('hex').slice(0, 16)}`);
    this.#socketFolder = inside.length <= MAX_SOCKET_FOLDER ? inside : outside;
  }

  /** Starts the PostgreSQL in `folder`, or uses the one that runs there. */
  static async open(folder: string, options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
    const absolute = resolve(folder);
    const binaries = await findBinaries(options.binariesPackage);
    const embedded = new EmbeddedPostgres(absolute, binaries, options);
    mkdirSync(join(absolute, 'users'), { recursive: true, mode: 0o700 });
    mkdirSync(embedded.#socketFolder, { recursive: true, mode: 0o700 });
    await embedded.#initialise();
    writeFileSync(embedded.#userFile(), '');
    try {
      await embedded.#ensureRunning();
      await embedded.#createDatabase('aqm');
    } catch (error) {
      await embedded.close();
      throw error;
    }
    embedded.#watch();
    return embedded;
  }

  /** Returns a connection string for libpq and pg. */
  connectionString(database = 'aqm'): string {
    return `postgresql:///${database}?host=${encodeURIComponent(this.#socketFolder)}&port=${PORT}&user=postgres`;
  }

  /** Unregisters this process, and stops the server when no other process uses it. */
  async close(): Promise<void> {
    clearInterval(this.#watcher);
    await this.#starting?.catch(() => {});
    rmSync(this.#userFile(), { force: true });
    if (this.#otherUsers() > 0) return;
    const pid = this.#serverPid();
    if (pid === undefined) return;
    for (const { mode, signal: name, timeoutMs } of SHUTDOWN_MODES) {
      const timeout = mode === 'fast' ? (this.#options.fastStopMs ?? timeoutMs) : timeoutMs;
      if (!signal(pid, name) || (await this.#hasStopped(pid, timeout))) return;
      this.#options.log.warn({ folder: this.#folder, mode }, 'PostgreSQL has not stopped in time');
    }
  }

  /**
   * Returns true once the server has removed its lock file or its process is gone, and false after
   * the timeout.
   */
  async #hasStopped(pid: number, timeoutMs: number): Promise<boolean> {
    const deadline = Date.now() + timeoutMs;
    while (this.#serverPid() === pid && signal(pid, 0)) {
      if (Date.now() > deadline) return false;
      await setTimeout(20);
    }
    return true;
  }

  #watch(): void {
    this.#watcher = setInterval(() => {
      const pid = this.#serverPid();
      if (this.#starting || (pid !== undefined && signal(pid, 0))) return;
      this.#options.log.warn('the embedded PostgreSQL has died; restarting it');
      this.#starting = this.#ensureRunning()
        .catch((error: unknown) => this.#options.log.error({ err: error }, 'cannot start PostgreSQL; retrying'))
        .finally(() => {
          this.#starting = undefined;
        });
    }, WATCH_INTERVAL_MS);
  }

  async #initialise(): Promise<void> {
    if (existsSync(this.#data())) return;
    this.#options.log.info({ folder: this.#folder }, 'creating a PostgreSQL cluster');
    const draft = join(this.#folder, `data-${randomUUID()}`);
    const args = ['-D', draft, '-U', 'postgres', '--auth=trust', '--locale=C', '--encoding=UTF8'];
    const child = spawnUnprivileged(this.#binaries.initdb, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let output = '';
    child.stderr?.on('data', (text: Buffer) => {
      output += text;
    });
    const [code] = await once(child, 'close');
    if (code !== 0) throw new Error(`initdb failed in ${this.#folder}: ${output.trim()}`);
    try {
      renameSync(draft, this.#data());
    } catch (error) {
      // Another process was faster. Its cluster is complete.
      rmSync(draft, { recursive: true });
      if (!existsSync(this.#data())) throw error;
    }
  }

  async #ensureRunning(): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    let server: ReturnType<typeof spawnUnprivileged> | undefined;
    for (;;) {
      const failure = await this.#tryConnect();
      if (!failure) return;
      // Later the server is needed, to stop in order.
      if (!this.#watcher) this.#options.stop?.throwIfAborted();
      if (Date.now() > deadline) {
        throw new Error(`PostgreSQL in ${this.#folder} does not start. See ${this.#logFile()}.`, { cause: failure });
      }
      // No server listens, so one is started. If another process is faster, its lock file ends this
      // server at once.
      const ended = !server || server.exitCode !== null || server.signalCode !== null;
      const { code } = failure as { code?: string };
      if (ended && (code === 'ECONNREFUSED' || code === 'ENOENT')) server = this.#spawnServer();
      await setTimeout(50);
    }
  }

  #spawnServer() {
    const settings = [
      'listen_addresses=',
      `unix_socket_directories=${this.#socketFolder}`,
      `port=${PORT}`,
      'max_connections=200',
      // Otherwise the log contains whole rows, with ids and key bytes, where a constraint is
      // violated.
      'log_error_verbosity=terse',
      ...(this.#options.settings ?? []),
    ];
    const args = ['-D', this.#data(), ...settings.flatMap((setting) => ['-c', setting])];
    const logFile = openSync(this.#logFile(), 'a');
    // In its own process group, so that Ctrl-C reaches only the service, which then shuts the
    // server down.
    const server = spawnUnprivileged(this.#binaries.postgres, args, {
      detached: true,
      stdio: ['ignore', logFile, logFile],
    });
    server.on('error', (error) => this.#options.log.error({ err: error }, 'cannot run PostgreSQL'));
    server.unref();
    return server;
  }

  async #tryConnect(database = 'postgres'): Promise<unknown> {
    const client = new Client({ connectionString: this.connectionString(database), connectionTimeoutMillis: 2000 });
    client.on('error', () => {});
    try {
      await client.connect();
      return undefined;
    } catch (error) {
      return error;
    } finally {
      await client.end().catch(() => {});
    }
  }

  async #createDatabase(name: string): Promise<void> {
    const client = new Client({ connectionString: this.connectionString('postgres') });
    await client.connect();
    try {
      await client.query(`CREATE DATABASE ${name}`);
    } catch (error) {
      // 42P04: the database exists. 23505: another process creates it at this moment.
      const { code } = error as { code?: string };
      if (code !== '42P04' && code !== '23505') throw error;
    } finally {
      await client.end();
    }
  }

  #serverPid(): number | undefined {
    try {
      const pid = Number.parseInt(readFileSync(join(this.#data(), 'postmaster.pid'), 'utf8'), 10);
      return pid > 0 ? pid : undefined;
    } catch {
      return undefined;
    }
  }

  #otherUsers(): number {
    return readdirSync(join(this.#folder, 'users')).filter((file) => {
      const alive = signal(Number(file), 0);
      if (!alive) rmSync(join(this.#folder, 'users', file), { force: true });
      return alive;
    }).length;
  }

  #data = () => join(this.#folder, 'data');
  #logFile = () => join(this.#folder, 'postgresql.log');
  #userFile = () => join(this.#folder, 'users', String(process.pid));
}

/** Sends a signal. Returns false if the process does not exist; signal 0 only checks that. */
function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, name);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
