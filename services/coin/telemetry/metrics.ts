import { type Histogram, type Meter, metrics } from '@opentelemetry/api';
import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import { COIN_CATEGORIES } from '../../../gen/aqm/coin/v1/coin_categories';
import { CoinUploadResult_Outcome as UploadOutcome } from '../../../gen/aqm/coin/v1/coin_service';
import { Counter } from './counters';

/**
 * What the service counts, always, and tells when metrics are on. No label is ever a value that somebody chose: no id, no path
 * of a call that we do not serve (promise 10).
 */

const TIER = 'aqm.coin_category';
const OUTCOME = 'aqm.outcome';
const JOB = 'aqm.job';

const TIERS = COIN_CATEGORIES.map(({ name }): string => name);
const tierOf = new Map<CoinCategory, string>(COIN_CATEGORIES.map(({ category, name }) => [category, name]));
const JOBS = ['hard-delete-fetched', 'clear-retired', 'purge-stale', 'forget-spent'] as const;
export type Job = (typeof JOBS)[number];

const UPLOADED: Readonly<Record<number, string>> = {
  [UploadOutcome.OUTCOME_INSERTED]: 'inserted',
  [UploadOutcome.OUTCOME_ALREADY_PRESENT]: 'already_present',
  [UploadOutcome.OUTCOME_CONFLICT]: 'conflict',
  [UploadOutcome.OUTCOME_SPENT]: 'spent',
  [UploadOutcome.OUTCOME_EXPIRED]: 'expired',
  [UploadOutcome.OUTCOME_OVER_STOCK_LIMIT]: 'over_stock_limit',
};

const fetches = new Counter(TIER, OUTCOME);
fetches.declare(TIERS, ['whole', 'short', 'empty', 'repeat', 'failed']);
const coinsFetched = new Counter(TIER);
coinsFetched.declare(TIERS);
const coinsUploaded = new Counter(TIER, OUTCOME);
coinsUploaded.declare(TIERS, Object.values(UPLOADED));
const coinsRetired = new Counter(TIER);
coinsRetired.declare(TIERS);
const coinsRemoved = new Counter(JOB);
coinsRemoved.declare(JOBS);
const housekeepingRuns = new Counter(JOB, OUTCOME);
housekeepingRuns.declare(JOBS, ['done', 'failed']);
const callsRefused = new Counter('aqm.reason');
const limitsHit = new Counter('aqm.limit');
limitsHit.declare(['fetch', 'upload', 'reconcile']);
/** By job, in seconds since 1970. */
const housekeepingSuccess = new Map<Job, number>();

export interface CountedFetch {
  readonly coinCategory: CoinCategory;
  readonly count: number;
  /** It is over a limit, and only looks for an earlier answer. */
  readonly onlyRemembered?: boolean;
}

export type CountedAnswer =
  | { readonly coins: readonly { readonly coinCategory: CoinCategory }[]; readonly isRepeat: boolean }
  | { readonly error: unknown };

export const count = {
  fetch(fetch: CountedFetch | undefined, answer: CountedAnswer): void {
    const tier = fetch && tierOf.get(fetch.coinCategory);
    if (!fetch || tier === undefined) return;
    if ('error' in answer) fetches.add(1, tier, 'failed');
    else if (answer.isRepeat) fetches.add(1, tier, 'repeat');
    else if (!fetch.onlyRemembered) {
      const { length } = answer.coins;
      fetches.add(1, tier, length === fetch.count ? 'whole' : length === 0 ? 'empty' : 'short');
      for (const { coinCategory } of answer.coins) coinsFetched.add(1, tierOf.get(coinCategory) ?? '');
    }
  },
  uploads(coins: readonly { readonly coinCategory: CoinCategory }[], outcomes: readonly UploadOutcome[]): void {
    coins.forEach(({ coinCategory }, index) => {
      const outcome = UPLOADED[outcomes[index] ?? 0];
      if (outcome !== undefined) coinsUploaded.add(1, tierOf.get(coinCategory) ?? '', outcome);
    });
  },
  retired: (category: CoinCategory, coins: number) => coinsRetired.add(coins, tierOf.get(category) ?? ''),
  removed: (job: Job, coins: number) => coinsRemoved.add(coins, job),
  limitHit: (limit: 'fetch' | 'upload' | 'reconcile') => limitsHit.add(1, limit),
  /** A call that ended with an error of the contract. */
  refused: (reason: string) => callsRefused.add(1, reason),
  housekeeping(job: Job, outcome: 'done' | 'failed'): void {
    housekeepingRuns.add(1, job, outcome);
    if (outcome === 'done') housekeepingSuccess.set(job, Date.now() / 1000);
  },
};

let durations: Histogram | undefined;
let batches: Histogram | undefined;

/** Durations and sizes; nothing while metrics are off. */
export const measure = {
  get isOn(): boolean {
    return durations !== undefined;
  },
  call: (seconds: number, method: string, code: string) =>
    durations?.record(seconds, { 'rpc.system.name': 'grpc', 'rpc.method': method, 'rpc.response.status_code': code }),
  /** Fetches that shared one statement. */
  batch: (fetchCount: number) => batches?.record(fetchCount),
};

const DURATIONS_S = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/**
 * Tells from now on what is counted and measured, to the meter provider that is registered.
 * @param reasons of the contract's errors
 */
export function turnMetricsOn(reasons: readonly string[]): Meter {
  const meter = metrics.getMeter('aqm.coin');
  callsRefused.declare(reasons);
  durations = meter.createHistogram('rpc.server.call.duration', {
    description: 'Calls, from their first header to their status, by method and gRPC code',
    unit: 's',
    advice: { explicitBucketBoundaries: DURATIONS_S },
  });
  batches = meter.createHistogram('aqm.batch.size', {
    description: 'Fetches that one statement served (AQM_CLAIM_BATCH)',
    advice: { explicitBucketBoundaries: BATCHES },
  });
  const counter = (name: string, tally: Counter, description: string) =>
    meter.createObservableCounter(name, { description }).addCallback((result) => tally.observe(result));
  counter('aqm.fetches', fetches, 'Fetches by the category asked for and what became of them');
  counter('aqm.coins.fetched', coinsFetched, 'Coins handed out, by their category; repeats do not count');
  counter('aqm.coins.uploaded', coinsUploaded, 'Coins uploaded, by category and outcome');
  counter('aqm.coins.retired', coinsRetired, 'Coins that reconciling made spent');
  counter(
    'aqm.coins.removed',
    coinsRemoved,
    'Coins that a job of housekeeping, or the admin call of that name, removed',
  );
  counter('aqm.housekeeping.runs', housekeepingRuns, 'Scheduled runs of the jobs of housekeeping');
  counter('aqm.calls.refused', callsRefused, 'Calls that ended with an error, by its reason');
  counter('aqm.limits.hit', limitsHit, 'Fetches, uploads and reconciles that were over a limit');
  meter
    .createObservableGauge('aqm.housekeeping.last_success', {
      description: 'When a job last ran to its end',
      unit: 's',
    })
    .addCallback((result) => {
      for (const [job, seconds] of housekeepingSuccess) result.observe(seconds, { [JOB]: job });
    });
  return meter;
}
