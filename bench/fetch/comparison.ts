import type { CoinCategorySpec } from '../../gen/aqm/coin/v1/coin_categories';
import type { ServiceProcess } from '../../testkit/service-process';
import { PLAIN_TABLE } from '../fetch-cost/plain';
import type { Latency } from '../harness/numbers';
import { treeCpuMs } from '../harness/processor';
import { TestBed } from '../harness/test-bed';
import { type FetchLoad, fetchByGhz, IN_FLIGHT, LEAD_IN_S, leadIn, POSTGRES } from './load';
import { pgbench, targetId } from './pgbench';
import { OnceAlone, spawnEcho } from './servers';
import { StoreAlone } from './store-alone';

/**
 * The variants that are measured alternately: the service as shipped (`batched`), with AQM_CLAIM_BATCH=1 (`unbatched`),
 * the plain claim by pgbench, an empty gRPC echo, the service's store without gRPC (`store alone`), and a minimal gRPC
 * server whose only promise is that no coin is handed out twice (`once alone`).
 */
export const VARIANTS = ['batched', 'unbatched', 'plain claim', 'echo', 'store alone', 'once alone'] as const;
export type Variant = (typeof VARIANTS)[number];

/** One measurement of one variant. */
export interface Round {
  /** Answers with a coin per second. For the plain claim: rows taken per second. */
  readonly perSecond: number;
  /** Latency of all answered calls. pgbench reports only the mean. */
  readonly latency: Latency | { readonly mean: number };
  /** Calls that were answered without a coin. */
  readonly empty: number;
  readonly failures: Readonly<Record<string, number>>;
  /** Processor time, in microseconds per coin. */
  readonly cpuUs: { readonly service: number; readonly generator: number; readonly postgres: number };
}

/** The parameters of a run. */
export interface Plan {
  readonly spec: CoinCategorySpec;
  readonly targets: number;
  readonly seconds: number;
  /** The number of connections over which ghz spreads its calls. */
  readonly connections: number;
  /** The maximum number of fetches per statement in the batched variant. */
  readonly batch: number;
  /** The number of processes of each gRPC server. */
  readonly workers: number;
  /** True if each call has a new request_id. */
  readonly named: boolean;
}

/** The variants that are reached over gRPC. */
type Served = Exclude<Variant, 'plain claim' | 'store alone'>;

function isServed(variant: Variant): variant is Served {
  return variant !== 'plain claim' && variant !== 'store alone';
}

/** Runs all variants, those with a database on one PostgreSQL. */
export class Comparison {
  readonly #plan: Plan;
  readonly #testBed: TestBed;
  readonly #services: Readonly<Record<Served, ServiceProcess>>;
  readonly #store: StoreAlone;
  readonly #once: OnceAlone;
  readonly #token: string;

  private constructor(
    plan: Plan,
    testBed: TestBed,
    others: { readonly unbatched: ServiceProcess; readonly echo: ServiceProcess; readonly once: OnceAlone },
    store: StoreAlone,
    token: string,
  ) {
    const { unbatched, echo, once } = others;
    this.#plan = plan;
    this.#testBed = testBed;
    this.#services = { batched: testBed.service, unbatched: unbatched, echo, 'once alone': once.service };
    this.#store = store;
    this.#once = once;
    this.#token = token;
  }

  static async open(plan: Plan): Promise<Comparison> {
    // With 256 calls in flight, a late answer is better than a refusal.
    const env = {
      AQM_LOG_LEVEL: 'error',
      AQM_MAX_WAIT_MS: '10000',
      AQM_CLAIM_BATCH: String(plan.batch),
    };
    const workers = { AQM_WORKERS: String(plan.workers) };
    const testBed = await TestBed.open({
      postgresSettings: POSTGRES,
      env: { ...env, ...workers },
      targets: Array.from({ length: plan.targets }, (_, index) => targetId(index + 1)),
      coinsPerTarget: 0,
    });
    const unbatched = await testBed.spawnService({ ...env, ...workers, AQM_CLAIM_BATCH: '1' });
    const [token = ''] = await testBed.tokens(1);
    await testBed.query(PLAIN_TABLE);
    const echo = await spawnEcho(plan.spec, plan.workers);
    const once = await OnceAlone.open(testBed, plan.spec, plan.workers);
    const others = { unbatched, echo, once };
    return new Comparison(plan, testBed, others, await StoreAlone.open(testBed.url, env), token);
  }

  /** Fills up the stock with as many coins as a round of every variant could take. */
  async stockUp(maxPerSecond: number): Promise<void> {
    const { spec, targets, seconds } = this.#plan;
    const perTarget = Math.ceil((maxPerSecond * (seconds + LEAD_IN_S + 1)) / targets);
    const ours = 2 * perTarget - (await this.#testBed.fewest());
    await this.#testBed.stock([{ spec, perUser: Math.max(0, ours) }]);
    // pgbench chooses its targets at random, so some need more coins than others.
    const wanted = perTarget + Math.ceil(5 * Math.sqrt(perTarget));
    const plain = wanted - (await this.#testBed.fewest('SELECT user_id FROM plain_coin WHERE fetch_time IS NULL'));
    await this.#testBed.query(
      `INSERT INTO plain_coin (user_id, key_id, coin_category, upload_order, expire_time, public_key, signature)
       SELECT u, gen_random_uuid(), $2, nextval('coin_upload_batch') * 128, now() + interval '20 days',
         decode(repeat('ab', $3), 'hex'), decode(repeat('cd', $4), 'hex')
       FROM generate_series(1, $5::int) n, unnest($1::uuid[]) u`,
      [this.#testBed.targets, spec.category, spec.publicKeySize, spec.signatureSize, Math.max(0, plain)],
    );
    await this.#once.stockUp(perTarget);
    await this.#testBed.settle(['plain_coin']);
  }

  /** Measures one variant once. */
  async round(variant: Variant): Promise<Round> {
    await this.#testBed.query('CHECKPOINT');
    if (isServed(variant)) await leadIn(this.#loadOf(variant));
    const cpu = { service: this.#serviceCpuMs(variant), postgres: this.#testBed.postgresCpuMs() };
    const coins = await this.#coinsTaken(variant);
    const load = await this.#load(variant);
    const taken = variant === 'echo' ? load.answered : (await this.#coinsTaken(variant)) - coins;
    const us = (ms: number) => (1000 * ms) / taken;
    return {
      perSecond: taken / load.seconds,
      latency: load.latency,
      empty: load.answered - taken,
      failures: load.failures,
      cpuUs: {
        service: us(this.#serviceCpuMs(variant) - cpu.service),
        generator: us(load.cpuMs),
        postgres: us(this.#testBed.postgresCpuMs() - cpu.postgres),
      },
    };
  }

  #load(variant: Variant) {
    if (isServed(variant)) return this.#ghz(this.#loadOf(variant));
    return variant === 'plain claim' ? this.#plain() : this.#alone();
  }

  /** Measures the latency of single calls on an otherwise idle service. */
  async idle(variant: 'batched' | 'unbatched'): Promise<Latency> {
    return (await this.#ghz({ ...this.#loadOf(variant), concurrency: 1, connections: 1 })).latency;
  }

  async #ghz(load: FetchLoad) {
    const result = await fetchByGhz(load);
    return { ...result, answered: result.latency.count };
  }

  #loadOf(variant: Served): FetchLoad {
    const { spec, connections, seconds, named } = this.#plan;
    const { address } = this.#services[variant];
    const { targets } = this.#testBed;
    return { address, token: this.#token, targets, category: spec.category, connections, seconds, named };
  }

  async #alone() {
    const { spec } = this.#plan;
    const { targets } = this.#testBed;
    // A quarter of the duration of the others: it leaves three times as many dead rows per second, which the others
    // would have to skip.
    const seconds = this.#plan.seconds / 4;
    const result = await this.#store.load({ targets, coinCategory: spec.category, callers: IN_FLIGHT, seconds });
    return { ...result, failures: {} };
  }

  async #plain() {
    const { targets, seconds, spec } = this.#plan;
    const result = await pgbench(this.#testBed.url, { targets, seconds, category: spec.category });
    return {
      seconds: result.transactions / result.perSecond,
      answered: result.transactions,
      latency: { mean: result.latencyMs },
      failures: {},
      cpuMs: result.cpuMs,
    };
  }

  async #coinsTaken(variant: Variant): Promise<number> {
    if (variant === 'once alone') return -(await this.#once.inStock());
    if (variant !== 'plain claim') return this.#testBed.coinsFetched();
    const [row] = await this.#testBed.query<{ coins: string }>(
      'SELECT count(*) AS coins FROM plain_coin WHERE fetch_time IS NOT NULL',
    );
    return Number(row?.coins);
  }

  #serviceCpuMs(variant: Variant): number {
    return isServed(variant) ? treeCpuMs(this.#services[variant].child.pid ?? 0) : 0;
  }

  async close(): Promise<void> {
    await this.#services.echo.stop();
    await this.#services['once alone'].stop();
    await this.#store.close();
    await this.#testBed.close();
  }
}
