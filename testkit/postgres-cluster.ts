import { type ChildProcess, execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, closeSync, existsSync, mkdirSync, openSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Client } from 'pg';
import { type Binaries, spawnUnprivileged } from '../services/coin/database/embedded-binaries';

const PORT = 5432;
const usual = (): Binaries => JSON.parse(process.env.TEST_BINARIES ?? '{}');

/**
 * Runs a PostgreSQL cluster that a test can kill, copy, recover and promote. A test that only needs a database clones one in the
 * PostgreSQL of the run (test-database.ts); chaos and benches run the service's own EmbeddedPostgres.
 */
export class Cluster {
  readonly data: string;
  readonly socketFolder: string;
  readonly #binaries: Binaries;
  #server: ChildProcess | undefined;

  constructor(
    readonly folder: string,
    options: { readonly socketFolder?: string; readonly binaries?: Binaries } = {},
  ) {
    this.#binaries = options.binaries ?? usual();
    this.data = join(folder, 'data');
    this.socketFolder = options.socketFolder ?? join(folder, 'socket');
  }

  async init(): Promise<void> {
    mkdirSync(this.folder, { recursive: true });
    const args = ['-D', this.data, '-U', 'postgres', '--auth=trust', '--locale=C', '--encoding=UTF8', '--no-sync'];
    const [code] = await once(spawnUnprivileged(this.#binaries.initdb, args, { stdio: 'ignore' }), 'close');
    if (code !== 0) throw new Error(`initdb ended with ${code}`);
  }

  /** Starts it without fsync, because no machine fails here, and waits until it answers. A standby answers while it recovers. */
  async start(settings: readonly string[] = []): Promise<void> {
    mkdirSync(this.socketFolder, { recursive: true });
    const all = [
      'listen_addresses=',
      `unix_socket_directories=${this.socketFolder}`,
      `port=${PORT}`,
      'fsync=off',
      ...settings,
    ];
    const args = ['-D', this.data, ...all.flatMap((setting) => ['-c', setting])];
    const log = openSync(join(this.folder, 'postgresql.log'), 'a');
    this.#server = spawnUnprivileged(this.#binaries.postgres, args, { stdio: ['ignore', log, log] });
    closeSync(log);
    for (;;) {
      if (this.#server.exitCode !== null) throw new Error(`PostgreSQL ended; see ${this.folder}/postgresql.log`);
      try {
        await this.query('SELECT 1', 'postgres');
        return;
      } catch {
        await setTimeout(20);
      }
    }
  }

  /** Stops it. SIGQUIT is PostgreSQL's "immediate shutdown", which leaves what a crash leaves. */
  async stop(signal: 'SIGQUIT' | 'SIGINT' = 'SIGQUIT'): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (!server || server.exitCode !== null || server.signalCode !== null) return;
    const gone = once(server, 'exit');
    server.kill(signal);
    await gone;
  }

  url(database = 'aqm', socketFolder = this.socketFolder): string {
    return `postgresql:///${database}?host=${encodeURIComponent(socketFolder)}&port=${PORT}&user=postgres`;
  }

  /** Returns the first column of the first row. */
  async query(text: string, database = 'aqm'): Promise<string> {
    return queryOnce(this.url(database), text);
  }

  /** Repeats a query until its answer is true. */
  async until(condition: string): Promise<void> {
    while ((await this.query(`SELECT (${condition})::text`, 'postgres')) !== 'true') {
      await setTimeout(20);
    }
  }

  /** Copies the data folder of this cluster, which must not run, with these settings and signal file. */
  copyTo(other: Cluster, settings: readonly string[], signalFile: string): void {
    mkdirSync(other.folder, { recursive: true });
    execFileSync('cp', ['-a', this.data, other.data]);
    other.addFile('postgresql.auto.conf', `${settings.join('\n')}\n`);
    other.addFile(signalFile, '');
  }

  addFile(name: string, text: string): void {
    addFile(this.data, name, text);
  }
}

/** Copies the data folder of a running cluster by PostgreSQL's low-level backup API, because no npm package has pg_basebackup. */
export async function baseBackup(url: string, data: string, copy: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await client.query("SELECT pg_backup_start('test', fast => true)");
    copyInUse(data, copy);
    const { rows } = await client.query<{ labelfile: string }>('SELECT labelfile FROM pg_backup_stop(false)');
    rmSync(join(copy, 'postmaster.pid'), { force: true });
    copyInUse(`${join(data, 'pg_wal')}/.`, join(copy, 'pg_wal'));
    addFile(copy, 'backup_label', rows[0]?.labelfile ?? '');
  } finally {
    await client.end();
  }
}

/** Copies a folder whose files may vanish meanwhile. PostgreSQL keeps those that a backup needs. */
function copyInUse(from: string, to: string): void {
  const { stderr } = spawnSync('cp', ['-a', from, to], { encoding: 'utf8' });
  const complaints = stderr.split('\n').filter((line) => line !== '' && !line.endsWith('No such file or directory'));
  if (complaints.length > 0) throw new Error(complaints.join('\n'));
}

export async function queryOnce(url: string, text: string): Promise<string> {
  const client = new Client({ connectionString: url });
  client.on('error', () => {});
  await client.connect();
  try {
    const { rows } = await client.query({ text, rowMode: 'array' });
    return String(rows[0]?.[0]);
  } finally {
    await client.end();
  }
}

function addFile(data: string, name: string, text: string): void {
  const path = join(data, name);
  if (existsSync(path)) rmSync(path);
  writeFileSync(path, text, { mode: 0o600 });
  // Root runs PostgreSQL as another user, who must own the file.
  const { uid, gid } = statSync(data);
  chownSync(path, uid, gid);
}
