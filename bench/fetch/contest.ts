import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CoinCategorySpec } from '../../gen/aqm/coin/v1/coin_categories';
import { FetchCoinsResponse } from '../../gen/aqm/coin/v1/coin_service';
import { type ServiceProcess, spawnProgram } from '../../services/coin/test/service-process';
import { PLAIN_TABLE } from '../fetch-cost/plain';
import { type GhzResult, runGhz } from '../service/ghz';
import type { Latency } from '../service/numbers';
import { treeCpuMs } from '../service/processor';
import { Stage } from '../service/stage';
import { ONCE_TABLE } from './once-table';
import { pgbench, targetId } from './pgbench';
import { StoreAlone } from './store-alone';

/** What takes turns. */
export const ARMS = ['gathered', 'not gathered', 'plain claim', 'echo', 'store alone', 'once alone'] as const;
export type Arm = (typeof ARMS)[number];

const CALL = 'aqm.coin.v1.CoinService/FetchCoins';
export const IN_FLIGHT = 256;

/** The hot tables fit, and no checkpoint falls into a round. Everything that makes a commit durable is as it ships. */
export const POSTGRES = ['shared_buffers=1GB', 'max_wal_size=8GB', 'checkpoint_timeout=1h'];

export interface Round {
  /** Answers with a coin, a second; of the plain claim rows that it took. */
  readonly perSecond: number;
  /** Of all answered calls; of pgbench only the mean is known. */
  readonly latency: Latency | { readonly mean: number };
  /** Calls that were answered, but without a coin. */
  readonly empty: number;
  readonly failures: Readonly<Record<string, number>>;
  /** Processor time, in microseconds a coin. */
  readonly cpuUs: { readonly service: number; readonly generator: number; readonly postgres: number };
}

export interface Plan {
  readonly spec: CoinCategorySpec;
  readonly targets: number;
  readonly seconds: number;
  /** That ghz spreads its calls over. */
  readonly connections: number;
  /** Fetches of one statement of the service that gathers. */
  readonly batch: number;
  /** Processes of everything that answers over gRPC. */
  readonly workers: number;
}

/** Those that are reached over gRPC. */
type Served = Exclude<Arm, 'plain claim' | 'store alone'>;

/**
 * A service with gathering, one without, the store of one without the wire, the plain table, what promises "once" alone, on one
 * PostgreSQL; and the echo.
 */
export class Contest {
  readonly #plan: Plan;
  readonly #stage: Stage;
  readonly #services: Readonly<Record<Served, ServiceProcess>>;
  readonly #store: StoreAlone;
  readonly #token: string;

  private constructor(
    plan: Plan,
    stage: Stage,
    others: readonly [ServiceProcess, ServiceProcess, ServiceProcess],
    store: StoreAlone,
    token: string,
  ) {
    this.#plan = plan;
    this.#stage = stage;
    this.#services = { gathered: stage.service, 'not gathered': others[0], echo: others[1], 'once alone': others[2] };
    this.#store = store;
    this.#token = token;
  }

  static async open(plan: Plan): Promise<Contest> {
    // Whoever has 256 calls in flight wants them answered, late rather than never.
    const env = {
      AQM_LOG_LEVEL: 'error',
      AQM_MAX_WAIT_MS: '10000',
      AQM_CLAIM_BATCH: String(plan.batch),
    };
    const workers = { WORKERS: String(plan.workers) };
    const stage = await Stage.open({
      postgresSettings: POSTGRES,
      env: { ...env, ...workers },
      targets: Array.from({ length: plan.targets }, (_, index) => targetId(index + 1)),
      coinsPerTarget: 0,
    });
    const ungathered = await stage.spawnService({ ...env, ...workers, AQM_CLAIM_BATCH: '1' });
    const [token = ''] = await stage.tokens(1);
    await stage.query(PLAIN_TABLE);
    await stage.query(ONCE_TABLE);
    const program = (name: string) =>
      spawnProgram(join(__dirname, name), mkdtempSync(join(tmpdir(), 'aqm-fetch-')), {
        ...workers,
        ECHO_ANSWER: answerOf(plan.spec).toString('hex'),
        ONCE_DATABASE_URL: stage.url,
        ONCE_CATEGORY: String(plan.spec.category),
      });
    const others = [ungathered, await program('echo-server.js'), await program('once-server.js')] as const;
    return new Contest(plan, stage, others, await StoreAlone.open(stage.url, env), token);
  }

  /** Brings what a round of every arm could take, so that none runs dry. */
  async stockUp(mostPerSecond: number): Promise<void> {
    const { spec, targets, seconds } = this.#plan;
    const perTarget = Math.ceil((mostPerSecond * (seconds + 1)) / targets);
    const ours = 2 * perTarget - (await this.#stage.fewest());
    await this.#stage.stock([{ spec, perUser: Math.max(0, ours) }]);
    // pgbench chooses its targets at random: some are asked more often than others.
    const wanted = perTarget + Math.ceil(5 * Math.sqrt(perTarget));
    const plain = wanted - (await this.#stage.fewest('SELECT user_id FROM plain_coin WHERE fetch_time IS NULL'));
    await this.#stage.query(
      `INSERT INTO plain_coin (user_id, key_id, coin_category, upload_order, expire_time, public_key, signature)
       SELECT u, gen_random_uuid(), $2, nextval('coin_upload_batch') * 128, now() + interval '20 days',
         decode(repeat('ab', $3), 'hex'), decode(repeat('cd', $4), 'hex')
       FROM generate_series(1, $5::int) n, unnest($1::uuid[]) u`,
      [this.#stage.targets, spec.category, spec.publicKeySize, spec.signatureSize, Math.max(0, plain)],
    );
    const once = perTarget - (await this.#stage.fewest('SELECT user_id FROM once_coin'));
    await this.#stage.query(
      `INSERT INTO once_coin SELECT u, $2, nextval('coin_upload_batch') * 128, $3
       FROM generate_series(1, $4::int) n, unnest($1::uuid[]) u`,
      [this.#stage.targets, spec.category, answerOf(spec), Math.max(0, once)],
    );
    await this.#stage.settle(['plain_coin', 'once_coin']);
  }

  async round(arm: Arm): Promise<Round> {
    await this.#stage.query('CHECKPOINT');
    const cpu = { service: this.#serviceCpuMs(arm), postgres: this.#stage.postgresCpuMs() };
    const coins = await this.#coinsTaken(arm);
    const load = await this.#load(arm);
    const taken = arm === 'echo' ? load.answered : (await this.#coinsTaken(arm)) - coins;
    const us = (ms: number) => (1000 * ms) / taken;
    return {
      perSecond: taken / load.seconds,
      latency: load.latency,
      empty: load.answered - taken,
      failures: load.failures,
      cpuUs: {
        service: us(this.#serviceCpuMs(arm) - cpu.service),
        generator: us(load.cpuMs),
        postgres: us(this.#stage.postgresCpuMs() - cpu.postgres),
      },
    };
  }

  #load(arm: Arm) {
    if (arm === 'plain claim') return this.#plain();
    if (arm === 'store alone') return this.#alone();
    return this.#ghz(arm, IN_FLIGHT, this.#plan.connections);
  }

  /** One call after the other, and nothing else. */
  async idle(arm: 'gathered' | 'not gathered'): Promise<Latency> {
    return (await this.#ghz(arm, 1, 1)).latency;
  }

  async #ghz(arm: Served, concurrency: number, connections: number) {
    const result: GhzResult = await runGhz({
      address: this.#services[arm].address,
      call: CALL,
      token: this.#token,
      data: this.#stage.targets.map((target) => ({
        target_user_id: target,
        coin_category: this.#plan.spec.category,
        count: 1,
      })),
      concurrency,
      connections,
      seconds: this.#plan.seconds,
    });
    return { ...result, answered: result.latency.count };
  }

  async #alone() {
    const { spec } = this.#plan;
    const { targets } = this.#stage;
    // A quarter of what the others have: it leaves three times as many rows a second, and they would claim beside them.
    const seconds = this.#plan.seconds / 4;
    const result = await this.#store.load({ targets, coinCategory: spec.category, callers: IN_FLIGHT, seconds });
    return { ...result, failures: {} };
  }

  async #plain() {
    const { targets, seconds, spec } = this.#plan;
    const result = await pgbench(this.#stage.url, { targets, seconds, category: spec.category });
    return {
      seconds: result.transactions / result.perSecond,
      answered: result.transactions,
      latency: { mean: result.latencyMs },
      failures: {},
      cpuMs: result.cpuMs,
    };
  }

  async #coinsTaken(arm: Arm): Promise<number> {
    if (arm !== 'plain claim' && arm !== 'once alone') return this.#stage.coinsFetched();
    const [row] = await this.#stage.query<{ coins: string }>(
      arm === 'plain claim'
        ? 'SELECT count(*) AS coins FROM plain_coin WHERE fetch_time IS NOT NULL'
        : 'SELECT -count(*) AS coins FROM once_coin',
    );
    return Number(row?.coins);
  }

  #serviceCpuMs(arm: Arm): number {
    return arm === 'plain claim' || arm === 'store alone' ? 0 : treeCpuMs(this.#services[arm].child.pid ?? 0);
  }

  async close(): Promise<void> {
    await this.#services.echo.stop();
    await this.#services['once alone'].stop();
    await this.#store.close();
    await this.#stage.close();
  }
}

/** An answer with one coin, encoded. */
function answerOf(spec: CoinCategorySpec): Buffer {
  const coin = {
    keyId: randomUUID(),
    coinCategory: spec.category,
    publicKey: randomBytes(spec.publicKeySize),
    signature: randomBytes(spec.signatureSize),
    expireTime: new Date(),
  };
  return Buffer.from(FetchCoinsResponse.encode({ coins: [coin] }).finish());
}
