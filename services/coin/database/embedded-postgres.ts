import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  fstatSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Client } from 'pg';
import type { Logger } from 'pino';
import { type Binaries, findBinaries, installationOf, majorOf, spawnUnprivileged } from './embedded-binaries';
import { PORT, SOCKET, socketFolder } from './embedded-socket';
import { identityOf, isPostgresOf } from './process-identity';
import { UnusableDatabaseError } from './unusable-database-error';

/** The time between two checks that PostgreSQL is alive, in milliseconds. */
const WATCH_INTERVAL_MS = 200;
/** The longest time that a start (with crash recovery) may take, in milliseconds. */
const START_TIMEOUT_MS = 60_000;
/** The longest pause before PostgreSQL is started again that ended at once, in milliseconds. */
const MAX_PAUSE_MS = 1000;
/** The part of the server's log that is searched for its last error, in bytes. */
const LOG_END_BYTES = 16_384;
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

  private constructor(folder: string, socketFolder: string, binaries: Binaries, options: EmbeddedPostgresOptions) {
    this.#folder = folder;
    this.#socketFolder = socketFolder;
    this.#binaries = binaries;
    this.#options = options;
  }

  /**
   * Starts the PostgreSQL in `folder`, or uses the one that runs there.
   * @throws UnusableDatabaseError if an operator must do something about the folder
   */
  static async open(folder: string, options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
    const absolute = resolve(folder);
    forgetLibpqVariables();
    const binaries = await findBinaries(options.binariesPackage);
    mkdirSync(join(absolute, 'users'), { recursive: true, mode: 0o700 });
    const embedded = new EmbeddedPostgres(absolute, socketFolder(absolute), binaries, options);
    await embedded.#initialise();
    embedded.#register();
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

  /** Returns true if other processes use the server too. */
  isShared(): boolean {
    return this.#otherUsers() > 0;
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
    while (this.#serverPid() === pid) {
      if (Date.now() > deadline) return false;
      await setTimeout(20);
    }
    return true;
  }

  #watch(): void {
    this.#watcher = setInterval(() => {
      if (this.#starting || this.#isAlive()) return;
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
    if (existsSync(upgradeFolder(this.#folder))) {
      throw new UnusableDatabaseError(
        `The data in ${this.#folder} are being copied to another major version of PostgreSQL. If the copying was interrupted, run "aqm upgrade-postgres" again.`,
      );
    }
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
    let nextStart = 0;
    let pauseMs = 50;
    for (;;) {
      const failure = await this.#tryConnect();
      if (!failure) return;
      // Later the server is needed, to stop in order.
      if (!this.#watcher) this.#options.stop?.throwIfAborted();
      if (Date.now() > deadline) {
        throw new UnusableDatabaseError(
          `PostgreSQL in ${this.#folder} does not start: ${this.#lastComplaint() ?? (failure as Error).message}. See ${this.#logFile()}.`,
          { cause: failure },
        );
      }
      // No server listens, so one is started. If another process is faster, its lock file ends this
      // server at once.
      const ended = !server || server.exitCode !== null || server.signalCode !== null;
      const { code } = failure as { code?: string };
      const isSilent = code === 'ECONNREFUSED' || code === 'ENOENT';
      if (ended && isSilent && Date.now() >= nextStart && this.#serverPid() === undefined) {
        this.#removeStaleLocks();
        this.#requireOwnVersion();
        server = this.#spawnServer();
        nextStart = Date.now() + pauseMs;
        pauseMs = Math.min(MAX_PAUSE_MS, 2 * pauseMs);
      }
      await setTimeout(50);
    }
  }

  /** @throws UnusableDatabaseError if the data were written by another major version, which could not read them */
  #requireOwnVersion(): void {
    const theirs = textOf(join(this.#data(), 'PG_VERSION')).trim();
    const ours = majorOf(this.#binaries);
    // Programs that cannot run fail below, with their reason.
    if (theirs === ours || ours === '') return;
    if (theirs === '') throw new UnusableDatabaseError(`${this.#data()} is no data folder of PostgreSQL.`);
    const isOlder = Number(theirs) < Number(ours);
    const copied = isOlder ? `run "aqm upgrade-postgres", which copies the data to PostgreSQL ${ours}, or ` : '';
    throw new UnusableDatabaseError(
      `The data in ${this.#folder} are of PostgreSQL ${theirs}, and the programs are of PostgreSQL ${ours}. Install those of ${theirs} beside them (${installationOf(theirs)}). Then ${copied}set AQM_POSTGRES_PACKAGE=postgres-${theirs}.`,
    );
  }

  #spawnServer() {
    const settings = [
      'listen_addresses=',
      // A list, in which quotes protect a comma.
      `unix_socket_directories="${this.#socketFolder.replaceAll('"', '""')}"`,
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
    closeSync(logFile);
    server.on('error', (error) => this.#options.log.error({ err: error }, 'cannot run PostgreSQL'));
    server.unref();
    return server;
  }

  /** Returns the last error in the server's log. */
  #lastComplaint(): string | undefined {
    const log = openSync(this.#logFile(), 'a+');
    const end = Buffer.alloc(Math.min(LOG_END_BYTES, fstatSync(log).size));
    readSync(log, end, 0, end.length, fstatSync(log).size - end.length);
    closeSync(log);
    return [...end.toString().matchAll(/(?:FATAL|PANIC): +(.*)/g)].at(-1)?.[1];
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

  /** Returns true while the server's process is there. Without /proc, its number has to do, because this is asked often. */
  #isAlive(): boolean {
    if (process.platform === 'linux') return this.#serverPid() !== undefined;
    const pid = numberIn(this.#lockFile());
    return pid !== undefined && signal(pid, 0);
  }

  /**
   * Returns the process of the server. After a power cut, another process may have the number in
   * the lock file; it must not be taken for the server, and never be signalled.
   */
  #serverPid(): number | undefined {
    const pid = numberIn(this.#lockFile());
    return pid !== undefined && isPostgresOf(pid, this.#data()) ? pid : undefined;
  }

  /**
   * Removes lock files whose number another process has now. PostgreSQL would take that process for
   * a server and refuse to start. It finds servers that lost their lock file by their shared memory.
   */
  #removeStaleLocks(): void {
    for (const file of [this.#lockFile(), join(this.#socketFolder, `${SOCKET}.lock`)]) {
      const pid = numberIn(file);
      // PostgreSQL removes the file of a process that is gone by itself.
      if (pid === undefined || !signal(pid, 0) || isPostgresOf(pid, this.#data())) continue;
      this.#options.log.warn({ file, pid }, 'removing a stale lock file; another process has its process id now');
      const removed = `${file}.${randomUUID()}`;
      renameSync(file, removed);
      const now = numberIn(removed);
      // Another process has started a server meanwhile.
      if (now !== undefined && isPostgresOf(now, this.#data())) linkSync(removed, file);
      rmSync(removed);
    }
  }

  /** Registers this process under its number, with its identity as the contents. */
  #register(): void {
    const draft = join(this.#folder, `user-${randomUUID()}`);
    writeFileSync(draft, identityOf(process.pid) ?? '');
    // A rename, so that no other process reads a file without contents.
    renameSync(draft, this.#userFile());
  }

  #otherUsers(): number {
    return readdirSync(join(this.#folder, 'users')).filter((name) => {
      if (name === String(process.pid)) return false;
      const file = join(this.#folder, 'users', name);
      const isAlive = identityOf(Number(name)) === textOf(file);
      if (!isAlive) rmSync(file, { force: true });
      return isAlive;
    }).length;
  }

  #data = () => join(this.#folder, 'data');
  #lockFile = () => join(this.#data(), 'postmaster.pid');
  #logFile = () => join(this.#folder, 'postgresql.log');
  #userFile = () => join(this.#folder, 'users', String(process.pid));
}

/** Returns the folder in which embedded-upgrade.ts has the data of both major versions while it copies. */
export function upgradeFolder(folder: string): string {
  return join(folder, 'upgrade');
}

/**
 * Removes the variables of libpq, such as PGSSLMODE, from the environment of this process. The
 * driver reads them for all that a connection string leaves open, and they are meant for another
 * server than this one.
 */
function forgetLibpqVariables(): void {
  for (const name of Object.keys(process.env).filter((one) => /^PG[A-Z_]+$/.test(one))) delete process.env[name];
}

/** Returns the number in the first line of a lock file. */
function numberIn(file: string): number | undefined {
  const number = Number.parseInt(textOf(file), 10);
  return number > 0 ? number : undefined;
}

/** Returns the contents of a file; of one that is not there, an empty text. */
function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** Sends a signal. Returns false if the process does not exist; signal 0 only checks that. */
function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, name);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
