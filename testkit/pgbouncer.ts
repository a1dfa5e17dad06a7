import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Client } from 'pg';
import { spawnUnprivileged } from '../services/coin/database/embedded-binaries';
import { ROOT } from './root';

const INI = join(ROOT, 'deploy/pgbouncer.ini');
const PORT = 6432;

/** Runs a PgBouncer with deploy/pgbouncer.ini (transaction mode), on a Unix socket and without authentication. */
export class PgBouncer {
  readonly #folder: string;
  #child: ChildProcess | undefined;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * @param socketFolder the socket folder of its PostgreSQL, which need not run yet
   * @param settings settings that differ from deploy/pgbouncer.ini
   */
  static async start(
    folder: string,
    socketFolder: string,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<PgBouncer> {
    const pgbouncer = new PgBouncer(folder);
    mkdirSync(folder, { recursive: true });
    const own: Record<string, string> = {
      '*': `host=${socketFolder} port=5432 user=postgres`,
      listen_addr: '',
      auth_type: 'any',
      auth_file: '',
      ...settings,
    };
    // Not with %include: a repeated section starts with the defaults.
    const deployed = readFileSync(INI, 'utf8').replace(/^(\S+) =.*$/gm, (line, name: string) =>
      name in own ? `${name} = ${own[name]}` : line,
    );
    writeFileSync(join(folder, 'pgbouncer.ini'), `${deployed}\nunix_socket_dir = ${folder}\nadmin_users = postgres\n`);
    await pgbouncer.#run();
    return pgbouncer;
  }

  url(database: string): string {
    return `postgresql:///${database}?host=${encodeURIComponent(this.#folder)}&port=${PORT}&user=postgres`;
  }

  /** Runs a command of its console, such as RECONNECT. */
  async command(text: string): Promise<void> {
    const client = new Client({ connectionString: this.url('pgbouncer') });
    await client.connect();
    await client.query(text).finally(() => client.end());
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
  }

  async #run(): Promise<void> {
    const log = openSync(join(this.#folder, 'pgbouncer.log'), 'a');
    // Debian installs it in a folder that is on the PATH of root alone.
    const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` };
    const args = [join(this.#folder, 'pgbouncer.ini')];
    const child = spawnUnprivileged('pgbouncer', args, { stdio: ['ignore', log, log], env });
    closeSync(log);
    this.#child = child;
    let failure: unknown;
    child.on('error', (error) => {
      failure = error;
    });
    process.once('exit', () => child.kill('SIGKILL'));
    for (;;) {
      try {
        await this.command('SHOW VERSION');
        return;
      } catch (error) {
        if (failure || child.exitCode !== null) {
          const said = readFileSync(join(this.#folder, 'pgbouncer.log'), 'utf8');
          throw new Error(`pgbouncer did not start: ${said}`, { cause: failure ?? error });
        }
        await setTimeout(20);
      }
    }
  }
}
