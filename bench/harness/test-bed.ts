import { type KeyObject, randomUUID } from 'node:crypto';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, type QueryResultRow } from 'pg';
import pino from 'pino';
import { COIN_CATEGORIES, type CoinCategorySpec } from '../../gen/aqm/coin/v1/coin_categories';
import { EmbeddedPostgres } from '../../services/coin/database/embedded-postgres';
import { developmentKey, issueToken } from '../../services/coin/identity/development-key';
import { type ServiceProcess, spawnMain, spawnProgram } from '../../testkit/service-process';
import { settle, stockMixed, stockUp } from './fill-stock';
import { treeCpuMs } from './processor';

const BRONZE = COIN_CATEGORIES[2];
const TOKEN_LIFE_S = 86_400;

export interface TestBedOptions {
  readonly postgresSettings?: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** The user ids whose coins are fetched, or how many random ones to create. */
  readonly targets: number | readonly string[];
  readonly coinsPerTarget: number;
  /** The category of the coins. Default: BRONZE. */
  readonly spec?: CoinCategorySpec;
  /** The compiled entry of the service. Default: the service as shipped. */
  readonly program?: string;
}

/** Runs the service under test as a separate process on its own PostgreSQL, with coins in stock. */
export class TestBed {
  readonly targets: readonly string[];
  readonly #folder: string;
  readonly #postgres: EmbeddedPostgres;
  readonly #client: Client;
  readonly #services: [ServiceProcess, ...ServiceProcess[]];
  #privateKey: KeyObject | undefined;

  private constructor(
    folder: string,
    postgres: EmbeddedPostgres,
    client: Client,
    service: ServiceProcess,
    targets: readonly string[],
  ) {
    this.#folder = folder;
    this.#postgres = postgres;
    this.#client = client;
    this.#services = [service];
    this.targets = targets;
  }

  static async open(options: TestBedOptions): Promise<TestBed> {
    const folder = mkdtempSync(join(tmpdir(), 'aqm-bench-'));
    const postgres = await EmbeddedPostgres.open(join(folder, 'postgres'), {
      log: pino({ level: 'silent' }),
      ...(options.postgresSettings && { settings: options.postgresSettings }),
    });
    const url = postgres.connectionString();
    const service = await spawn(join(folder, 'service'), { DATABASE_URL: url, ...options.env }, options.program);
    const client = new Client({ connectionString: url });
    await client.connect();
    const { targets, coinsPerTarget, spec = BRONZE } = options;
    const users = typeof targets === 'number' ? Array.from({ length: targets }, () => randomUUID()) : targets;
    const testBed = new TestBed(folder, postgres, client, service, users);
    await testBed.stock([{ spec, perUser: coinsPerTarget }]);
    return testBed;
  }

  get service(): ServiceProcess {
    return this.#services[0];
  }

  /** The connection string of the PostgreSQL. */
  get url(): string {
    return this.#postgres.connectionString();
  }

  /**
   * Starts one more service on the same PostgreSQL, with the same token key.
   * @param program default: the service as shipped
   */
  async spawnService(env: NodeJS.ProcessEnv, program?: string): Promise<ServiceProcess> {
    const dataDir = join(this.#folder, `service-${this.#services.length + 1}`);
    mkdirSync(dataDir);
    copyFileSync(join(this.service.dataDir, 'development-key.pem'), join(dataDir, 'development-key.pem'));
    const settings = { DATABASE_URL: this.url, AQM_LOG_LEVEL: 'error', ...env };
    const service = await spawn(dataDir, settings, program);
    this.#services.push(service);
    return service;
  }

  /** Starts one more service, like {@link spawnService}. @returns its address */
  async addService(env: NodeJS.ProcessEnv): Promise<string> {
    return (await this.spawnService(env)).address;
  }

  /** Issues tokens for new users. */
  tokens(count: number): Promise<string[]> {
    return Promise.all(Array.from({ length: count }, () => this.token(randomUUID())));
  }

  token(userId: string, isAdmin = false): Promise<string> {
    this.#privateKey ??= developmentKey(this.service.dataDir).privateKey;
    return issueToken(this.#privateKey, { userId, isAdmin, ttlSeconds: TOKEN_LIFE_S, now: new Date() });
  }

  /** Adds coins to the stock of each target, or of the given users; see stockUp. */
  async stock(
    coins: readonly { readonly spec: CoinCategorySpec; readonly perUser: number }[],
    users: readonly string[] = this.targets,
    devices = 0,
  ): Promise<void> {
    await stockUp(this.#client, users, coins, devices);
  }

  /** Adds new users with coins of mixed categories; see stockMixed. @returns their ids */
  async addUsers(count: number, coinsPerUser: number, shares: readonly number[]): Promise<string[]> {
    const users = Array.from({ length: count }, () => randomUUID());
    await stockMixed(this.#client, users, coinsPerUser, shares);
    return users;
  }

  /**
   * Returns the smallest number of coins that any target has.
   * @param stock a query that returns one user_id per coin
   */
  async fewest(stock = 'SELECT user_id FROM coin_stock'): Promise<number> {
    const [row] = await this.query<{ coins: number }>(
      `SELECT min(coins)::int AS coins FROM (
         SELECT count(s.user_id) AS coins FROM unnest($1::uuid[]) u LEFT JOIN (${stock}) s ON s.user_id = u GROUP BY u
       ) n`,
      [this.targets],
    );
    return row?.coins ?? 0;
  }

  /** Vacuums and analyses the coin tables and the given ones, and runs a checkpoint. */
  async settle(others: readonly string[] = []): Promise<void> {
    await settle(this.#client, others);
  }

  async query<Row extends QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> {
    return (await this.#client.query<Row>(text, values)).rows;
  }

  /** Returns the bytes on disk of each coin table (with TOAST) and of each of their indexes, by name. */
  async sizes(): Promise<Record<string, number>> {
    const rows = await this.query<{ part: string; bytes: string }>(
      `SELECT c.relname AS part, pg_table_size(c.oid) AS bytes FROM pg_class c
       JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE n.nspname = 'public' AND c.relname LIKE 'coin%' AND c.relkind IN ('r', 'i') ORDER BY 1`,
    );
    return Object.fromEntries(rows.map(({ part, bytes }) => [part, Number(bytes)]));
  }

  /** Returns the number of coins handed out so far and not hard-deleted. */
  async coinsFetched(): Promise<number> {
    const [row] = await this.query<{ coins: string }>(
      'SELECT coalesce(sum(cardinality(key_ids)), 0) AS coins FROM coin_fetch',
    );
    return Number(row?.coins);
  }

  /** Returns the processor time of all services so far, in milliseconds. */
  serviceCpuMs(): number {
    return this.#services.reduce((sum, { child }) => sum + treeCpuMs(child.pid ?? 0), 0);
  }

  postgresCpuMs(): number {
    return treeCpuMs(Number.parseInt(readFileSync(join(this.#folder, 'postgres/data/postmaster.pid'), 'utf8'), 10));
  }

  async close(): Promise<void> {
    for (const service of this.#services) await service.stop();
    await this.#client.end();
    await this.#postgres.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function spawn(dataDir: string, settings: NodeJS.ProcessEnv, program?: string): Promise<ServiceProcess> {
  return program ? spawnProgram(program, dataDir, settings, ['serve']) : spawnMain(dataDir, settings);
}
