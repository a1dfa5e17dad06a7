import { randomUUID } from 'node:crypto';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import pino from 'pino';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { developmentKey, issueToken } from '../../services/coin/identity/development-key';
import { EmbeddedPostgres } from '../../services/coin/postgres/embedded-postgres';
import { type ServiceProcess, spawnMain } from '../../services/coin/test/service-process';

const [BRONZE] = COIN_CATEGORIES.filter(({ name }) => name === 'BRONZE');
/** Of the clock in which /proc counts processor time. */
const TICKS_PER_S = 100;

/** A service in a process of its own, on a PostgreSQL of its own, with coins in stock. */
export class Stage {
  readonly service: ServiceProcess;
  readonly targets: readonly string[];
  readonly #folder: string;
  readonly #postgres: EmbeddedPostgres;
  readonly #others: ServiceProcess[] = [];

  private constructor(folder: string, postgres: EmbeddedPostgres, service: ServiceProcess, targets: readonly string[]) {
    this.#folder = folder;
    this.#postgres = postgres;
    this.service = service;
    this.targets = targets;
  }

  static async open(options: {
    readonly postgresSettings?: readonly string[];
    readonly env: NodeJS.ProcessEnv;
    readonly targets: number;
    readonly coinsPerTarget: number;
  }): Promise<Stage> {
    const folder = mkdtempSync(join(tmpdir(), 'aqm-bench-'));
    const postgres = await EmbeddedPostgres.open(join(folder, 'postgres'), {
      log: pino({ level: 'silent' }),
      ...(options.postgresSettings && { settings: options.postgresSettings }),
    });
    const url = postgres.connectionString();
    const service = await spawnMain(join(folder, 'service'), { DATABASE_URL: url, ...options.env });
    const targets = Array.from({ length: options.targets }, () => randomUUID());
    await stock(url, targets, options.coinsPerTarget);
    return new Stage(folder, postgres, service, targets);
  }

  /** One more service on the same PostgreSQL, with the same keys. @returns its address */
  async addService(env: NodeJS.ProcessEnv): Promise<string> {
    const dataDir = join(this.#folder, `service-${this.#others.length + 2}`);
    mkdirSync(dataDir);
    copyFileSync(join(this.service.dataDir, 'development-key.pem'), join(dataDir, 'development-key.pem'));
    const url = this.#postgres.connectionString();
    const service = await spawnMain(dataDir, { DATABASE_URL: url, AQM_LOG_LEVEL: 'error', ...env });
    this.#others.push(service);
    return service.address;
  }

  /** Tokens of callers that nobody else is. */
  tokens(count: number): Promise<string[]> {
    const { privateKey } = developmentKey(this.service.dataDir);
    return Promise.all(
      Array.from({ length: count }, () =>
        issueToken(privateKey, { userId: randomUUID(), isAdmin: false, ttlSeconds: 86_400, now: new Date() }),
      ),
    );
  }

  /** Processor time that its services took so far, in milliseconds. */
  serviceCpuMs(): number {
    return [this.service, ...this.#others].reduce((sum, { child }) => sum + cpuMs(child.pid), 0);
  }

  async close(): Promise<void> {
    for (const service of [this.service, ...this.#others]) await service.stop();
    await this.#postgres.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function cpuMs(pid: number | undefined): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS_PER_S;
}

async function stock(url: string, targets: readonly string[], coinsPerTarget: number): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(
      `INSERT INTO coin (user_id, key_id, upload_order, expire_time, coin_category, public_key, signature)
       SELECT u, gen_random_uuid(), n * 128, now() + interval '20 days', $2, decode(repeat('ab', $3), 'hex'), decode(repeat('cd', $4), 'hex')
       FROM unnest($1::uuid[]) u, generate_series(1, $5::int) n`,
      [targets, BRONZE?.category, BRONZE?.publicKeySize, BRONZE?.signatureSize, coinsPerTarget],
    );
    await client.query(
      `INSERT INTO coin_stock (user_id, coin_category, upload_order, key_id, expire_time)
       SELECT user_id, coin_category, upload_order, key_id, expire_time FROM coin`,
    );
    for (const table of ['coin', 'coin_stock', 'coin_fetch']) await client.query(`VACUUM ANALYZE ${table}`);
    await client.query('CHECKPOINT');
  } finally {
    await client.end();
  }
}
