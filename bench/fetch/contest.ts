import type { CoinCategorySpec } from '../../gen/aqm/coin/v1/coin_categories';
import type { ServiceProcess } from '../../testkit/service-process';
import { PLAIN_TABLE } from '../fetch-cost/plain';
import type { Latency } from '../service/numbers';
import { treeCpuMs } from '../service/processor';
import { Stage } from '../service/stage';
import { type FetchLoad, fetchByGhz, IN_FLIGHT, LEAD_IN_S, leadIn, POSTGRES } from './load';
import { pgbench, targetId } from './pgbench';
import { OnceAlone, spawnEcho } from './servers';
import { StoreAlone } from './store-alone';

/** What takes turns. */
export const ARMS = ['gathered', 'not gathered', 'plain claim', 'echo', 'store alone', 'once alone'] as const;
export type Arm = (typeof ARMS)[number];

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
  /** Whether each call has a request_id. */
  readonly named: boolean;
}

/** Those that are reached over gRPC. */
type Served = Exclude<Arm, 'plain claim' | 'store alone'>;

function isServed(arm: Arm): arm is Served {
  return arm !== 'plain claim' && arm !== 'store alone';
}

/**
 * A service with gathering, one without, the store of one without the wire, the plain table, what promises "once" alone, on one
 * PostgreSQL; and the echo.
 */
export class Contest {
  readonly #plan: Plan;
  readonly #stage: Stage;
  readonly #services: Readonly<Record<Served, ServiceProcess>>;
  readonly #store: StoreAlone;
  readonly #once: OnceAlone;
  readonly #token: string;

  private constructor(
    plan: Plan,
    stage: Stage,
    others: { readonly ungathered: ServiceProcess; readonly echo: ServiceProcess; readonly once: OnceAlone },
    store: StoreAlone,
    token: string,
  ) {
    const { ungathered, echo, once } = others;
    this.#plan = plan;
    this.#stage = stage;
    this.#services = { gathered: stage.service, 'not gathered': ungathered, echo, 'once alone': once.service };
    this.#store = store;
    this.#once = once;
    this.#token = token;
  }

  static async open(plan: Plan): Promise<Contest> {
    // Whoever has 256 calls in flight wants them answered, late rather than never.
    const env = {
      AQM_LOG_LEVEL: 'error',
      AQM_MAX_WAIT_MS: '10000',
      AQM_CLAIM_BATCH: String(plan.batch),
    };
    const workers = { AQM_WORKERS: String(plan.workers) };
    const stage = await Stage.open({
      postgresSettings: POSTGRES,
      env: { ...env, ...workers },
      targets: Array.from({ length: plan.targets }, (_, index) => targetId(index + 1)),
      coinsPerTarget: 0,
    });
    const ungathered = await stage.spawnService({ ...env, ...workers, AQM_CLAIM_BATCH: '1' });
    const [token = ''] = await stage.tokens(1);
    await stage.query(PLAIN_TABLE);
    const echo = await spawnEcho(plan.spec, plan.workers);
    const once = await OnceAlone.open(stage, plan.spec, plan.workers);
    const others = { ungathered, echo, once };
    return new Contest(plan, stage, others, await StoreAlone.open(stage.url, env), token);
  }

  /** Brings what a round of every arm could take, so that none runs dry. */
  async stockUp(maxPerSecond: number): Promise<void> {
    const { spec, targets, seconds } = this.#plan;
    const perTarget = Math.ceil((maxPerSecond * (seconds + LEAD_IN_S + 1)) / targets);
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
    await this.#once.stockUp(perTarget);
    await this.#stage.settle(['plain_coin']);
  }

  async round(arm: Arm): Promise<Round> {
    await this.#stage.query('CHECKPOINT');
    if (isServed(arm)) await leadIn(this.#loadOf(arm));
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
    if (isServed(arm)) return this.#ghz(this.#loadOf(arm));
    return arm === 'plain claim' ? this.#plain() : this.#alone();
  }

  /** One call after the other, and nothing else. */
  async idle(arm: 'gathered' | 'not gathered'): Promise<Latency> {
    return (await this.#ghz({ ...this.#loadOf(arm), concurrency: 1, connections: 1 })).latency;
  }

  async #ghz(load: FetchLoad) {
    const result = await fetchByGhz(load);
    return { ...result, answered: result.latency.count };
  }

  #loadOf(arm: Served): FetchLoad {
    const { spec, connections, seconds, named } = this.#plan;
    const { address } = this.#services[arm];
    const { targets } = this.#stage;
    return { address, token: this.#token, targets, category: spec.category, connections, seconds, named };
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
    if (arm === 'once alone') return -(await this.#once.inStock());
    if (arm !== 'plain claim') return this.#stage.coinsFetched();
    const [row] = await this.#stage.query<{ coins: string }>(
      'SELECT count(*) AS coins FROM plain_coin WHERE fetch_time IS NOT NULL',
    );
    return Number(row?.coins);
  }

  #serviceCpuMs(arm: Arm): number {
    return isServed(arm) ? treeCpuMs(this.#services[arm].child.pid ?? 0) : 0;
  }

  async close(): Promise<void> {
    await this.#services.echo.stop();
    await this.#services['once alone'].stop();
    await this.#store.close();
    await this.#stage.close();
  }
}
