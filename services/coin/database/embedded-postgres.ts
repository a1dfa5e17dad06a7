import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Client } from 'pg';
import type { Logger } from 'pino';
import { type Binaries, findBinaries, spawnUnprivileged } from './embedded-binaries';

/** How often a service looks whether its PostgreSQL is alive, in milliseconds. */
const WATCH_INTERVAL_MS = 200;
/** How long a start (with crash recovery) may take before it is an error, in milliseconds. */
const START_TIMEOUT_MS = 60_000;
/**
 * The ways of stopping it, each tried for so many milliseconds before the next, harder one. "Fast" rolls back what is
 * open and writes a checkpoint; "immediate" leaves that to the next start, as a crash does, and loses nothing that was
 * committed: PostgreSQL itself then kills, after 5 s, those of its processes that do not answer.
 */
const STOPS = [
  { way: 'fast', signal: 'SIGINT', stallTimeoutMs: 20_000 },
  { way: 'immediate', signal: 'SIGQUIT', stallTimeoutMs: 10_000 },
  { way: 'kill', signal: 'SIGKILL', stallTimeoutMs: 10_000 },
] as const;
const PORT = 5432;
/** Longest path of a Unix socket that Linux and macOS accept, less the file's own name. */
const MAX_SOCKET_FOLDER = 103 - `/.s.PGSQL.${PORT}`.length;

export interface EmbeddedPostgresOptions {
  readonly log: Logger;
  /** npm package of the binaries; see findBinaries. */
  readonly binariesPackage?: string;
  /** Further `name=value` settings of postgresql.conf. */
  readonly settings?: readonly string[];
  /** How long a fast shutdown may take before an immediate one is tried, in milliseconds; 20,000 unless told. */
  readonly fastStopMs?: number;
}

/**
 * A real PostgreSQL under a folder, for whoever has none: made at its first use, reached through a Unix socket only
 * its owner can open, started again when it dies. Several processes may share it: each registers itself in `users/`,
 * the first starts the server, the last to leave stops it. PostgreSQL's own lock file decides between two starters.
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

  /** Starts the PostgreSQL in `folder`, or joins the one that runs there. */
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

  /** For any client of libpq or pg. */
  connectionString(database = 'aqm'): string {
    return `postgresql:///${database}?host=${encodeURIComponent(this.#socketFolder)}&port=${PORT}&user=postgres`;
  }

  /** Leaves; stops the server when nobody else uses it. */
  async close(): Promise<void> {
    clearInterval(this.#watcher);
    await this.#starting?.catch(() => {});
    rmSync(this.#userFile(), { force: true });
    if (this.#otherUsers() > 0) return;
    const pid = this.#serverPid();
    if (pid === undefined) return;
    for (const { way, signal: name, stallTimeoutMs } of STOPS) {
      const patience = way === 'fast' ? (this.#options.fastStopMs ?? stallTimeoutMs) : stallTimeoutMs;
      if (!signal(pid, name) || (await this.#hasStopped(pid, patience))) return;
      this.#options.log.warn({ folder: this.#folder, way }, 'PostgreSQL has not stopped in time');
    }
  }

  /** It removes its file before it ends; then its parent, if that is another process, may be slow to collect it. */
  async #hasStopped(pid: number, stallTimeoutMs: number): Promise<boolean> {
    const deadline = Date.now() + stallTimeoutMs;
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
      this.#options.log.warn('the embedded PostgreSQL has died; starting it again');
      this.#starting = this.#ensureRunning()
        .catch((error: unknown) =>
          this.#options.log.error({ err: error }, 'could not start PostgreSQL; will try again'),
        )
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
    let complaint = '';
    child.stderr?.on('data', (text: Buffer) => {
      complaint += text;
    });
    const [code] = await once(child, 'close');
    if (code !== 0) throw new Error(`initdb failed in ${this.#folder}: ${complaint.trim()}`);
    try {
      renameSync(draft, this.#data());
    } catch (error) {
      // Another process was faster, and its cluster is complete.
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
      if (Date.now() > deadline) {
        throw new Error(`PostgreSQL in ${this.#folder} does not start; see ${this.#logFile()}`, { cause: failure });
      }
      // Nobody listens: start one. Where another starter is faster, its lock file ends ours at once.
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
      // Else the log quotes whole rows where a constraint is violated: ids and key bytes.
      'log_error_verbosity=terse',
      ...(this.#options.settings ?? []),
    ];
    const args = ['-D', this.#data(), ...settings.flatMap((setting) => ['-c', setting])];
    const logFile = openSync(this.#logFile(), 'a');
    // A process group of its own: Ctrl-C is for the service, which then stops the server in order.
    const server = spawnUnprivileged(this.#binaries.postgres, args, {
      detached: true,
      stdio: ['ignore', logFile, logFile],
    });
    server.on('error', (error) => this.#options.log.error({ err: error }, 'could not run PostgreSQL'));
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
      // 42P04: it is there; 23505: another process creates it at this moment.
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

/** Signal 0 only asks whether the process is there. */
function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, name);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
