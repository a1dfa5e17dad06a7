import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Client } from 'pg';
import pino from 'pino';
import { EmbeddedPostgres } from '../../services/coin/database/embedded-postgres';
import { postgresModule } from '../../testkit/postgres-versions';
import type { Target } from './tcp-link';

/** The tables of which a restored backup has older rows. */
const COIN_TABLES = ['coin', 'coin_stock', 'coin_fetch'];

/** Runs a PostgreSQL that can be killed and is restarted. The services reach it only through TCP links. */
export class ManagedPostgres {
  readonly #folder: string;
  readonly #embedded: EmbeddedPostgres;

  private constructor(folder: string, embedded: EmbeddedPostgres) {
    this.#folder = folder;
    this.#embedded = embedded;
    // Needed only if the run itself dies, because EmbeddedPostgres lets its server outlive the parent process.
    process.once('exit', this.#quit);
  }

  static async start(folder: string): Promise<ManagedPostgres> {
    const log = pino({ level: 'silent' });
    const binariesPackage = postgresModule();
    return new ManagedPostgres(
      folder,
      await EmbeddedPostgres.open(folder, { log, ...(binariesPackage ? { binariesPackage } : {}) }),
    );
  }

  get url(): string {
    return this.#embedded.connectionString();
  }

  get target(): Target {
    const { searchParams } = new URL(this.url.replace('postgresql:///', 'postgresql://host/'));
    return { path: `${searchParams.get('host')}/.s.PGSQL.${searchParams.get('port')}` };
  }

  /** Sends SIGKILL to the postmaster. Its backends may still finish what they are doing. */
  kill(): void {
    process.kill(this.#pid(), 'SIGKILL');
  }

  /** Sends SIGKILL to one backend of the services. PostgreSQL then terminates all others and recovers. */
  async killBackend(): Promise<void> {
    const pids = await this.#query<{ pid: number }>(
      "SELECT pid FROM pg_stat_activity WHERE application_name = 'aqm-coin' ORDER BY state = 'active' DESC LIMIT 1",
    );
    for (const { pid } of pids) process.kill(pid, 'SIGKILL');
  }

  /** Terminates every connection of the services. */
  async terminateBackends(): Promise<void> {
    await this.#query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'aqm-coin'");
  }

  /** Reads the stock in a transaction that stays open for a while, as a long report does. Dead rows must be kept for it. */
  async holdSnapshot(durationMs: number): Promise<void> {
    const client = new Client({ connectionString: this.url, connectionTimeoutMillis: 2000 });
    client.on('error', () => {});
    try {
      await client.connect();
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT count(*) FROM coin_stock');
      await setTimeout(durationMs);
    } catch {
      // PostgreSQL was killed meanwhile.
    } finally {
      await client.end().catch(() => {});
    }
  }

  /** Resolves when it answers queries. */
  async healed(): Promise<void> {
    for (;;) {
      const answer = await this.#query('SELECT').then(
        () => true,
        () => false,
      );
      if (answer) return;
      await setTimeout(50);
    }
  }

  /** Keeps a copy of the coins as they are now. No service may be connected. */
  async copyCoins(): Promise<void> {
    await this.#query(
      `CREATE SCHEMA copy; ${COIN_TABLES.map((name) => `CREATE TABLE copy.${name} AS TABLE ${name}`).join('; ')}`,
    );
  }

  /**
   * Puts the copy in the place of the coins, as a restore does, or puts them back again; and restarts. No service may be
   * connected.
   */
  async swapWithCopy(): Promise<void> {
    const swap = (name: string) =>
      `CREATE TABLE copy.third AS TABLE ${name}; TRUNCATE ${name}; INSERT INTO ${name} TABLE copy.${name};
      DROP TABLE copy.${name}; ALTER TABLE copy.third RENAME TO ${name};`;
    await this.#query(COIN_TABLES.map(swap).join('\n'));
    this.kill();
    await setTimeout(100);
    await this.healed();
  }

  async close(): Promise<void> {
    await this.#embedded.close();
    process.off('exit', this.#quit);
  }

  #pid(): number {
    return Number.parseInt(readFileSync(join(this.#folder, 'data/postmaster.pid'), 'utf8'), 10);
  }

  readonly #quit = (): void => {
    try {
      process.kill(this.#pid(), 'SIGQUIT');
    } catch {
      // It has already exited.
    }
  };

  async #query<Row>(text: string): Promise<Row[]> {
    const client = new Client({ connectionString: this.url, connectionTimeoutMillis: 2000, query_timeout: 5000 });
    client.on('error', () => {});
    try {
      await client.connect();
      const { rows } = await client.query(text);
      return rows;
    } finally {
      await client.end().catch(() => {});
    }
  }
}
