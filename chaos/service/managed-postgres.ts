import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Client } from 'pg';
import pino from 'pino';
import { EmbeddedPostgres } from '../../services/coin/database/embedded-postgres';
import { postgresModule } from '../../testkit/postgres-versions';
import type { Target } from './tcp-link';

/** A PostgreSQL that belongs to the run: it kills it, and starts it again. The services know only the links to it. */
export class ManagedPostgres {
  readonly #folder: string;
  readonly #embedded: EmbeddedPostgres;

  private constructor(folder: string, embedded: EmbeddedPostgres) {
    this.#folder = folder;
    this.#embedded = embedded;
    // Only when the run itself dies: EmbeddedPostgres makes its server outlive the process that started it.
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

  /** SIGKILL for the postmaster. What its backends were doing they may still finish. */
  kill(): void {
    process.kill(this.#pid(), 'SIGKILL');
  }

  /** SIGKILL for one backend that serves the services; PostgreSQL then ends all others and recovers. */
  async killBackend(): Promise<void> {
    const pids = await this.#query<{ pid: number }>(
      "SELECT pid FROM pg_stat_activity WHERE application_name = 'aqm-coin' ORDER BY state = 'active' DESC LIMIT 1",
    );
    for (const { pid } of pids) process.kill(pid, 'SIGKILL');
  }

  /** Ends every connection of the services. */
  async terminateBackends(): Promise<void> {
    await this.#query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'aqm-coin'");
  }

  /** Until it answers. */
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
      // It is gone already.
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
