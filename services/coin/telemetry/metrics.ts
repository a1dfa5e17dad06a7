import { type Histogram, type Meter, metrics } from '@opentelemetry/api';
import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import { COIN_CATEGORIES } from '../../../gen/aqm/coin/v1/coin_categories';
import { CoinUploadResult_Outcome as UploadOutcome } from '../../../gen/aqm/coin/v1/coin_service';
import { Counter } from './counters';

/**
 * The metrics of the service. Counting is always on; exporting only if metrics are enabled. A label
 * value is never chosen by a caller: no id, no path of a method that is not served (promise 10).
 */

const CATEGORY = 'aqm.coin_category';
const OUTCOME = 'aqm.outcome';
const JOB = 'aqm.job';

const CATEGORIES = COIN_CATEGORIES.map(({ name }): string => name);
const nameOf = new Map<CoinCategory, string>(COIN_CATEGORIES.map(({ category, name }) => [category, name]));
const JOBS = ['hard-delete-fetched', 'clear-retired', 'purge-stale', 'forget-spent', 'forget-deleted'] as const;
export type Job = (typeof JOBS)[number];

const UPLOADED: Readonly<Record<number, string>> = {
  [UploadOutcome.OUTCOME_INSERTED]: 'inserted',
  [UploadOutcome.OUTCOME_ALREADY_PRESENT]: 'already_present',
  [UploadOutcome.OUTCOME_CONFLICT]: 'conflict',
  [UploadOutcome.OUTCOME_SPENT]: 'spent',
  [UploadOutcome.OUTCOME_EXPIRED]: 'expired',
  [UploadOutcome.OUTCOME_OVER_STOCK_LIMIT]: 'over_stock_limit',
};

const fetches = new Counter(CATEGORY, OUTCOME);
fetches.declare(CATEGORIES, ['whole', 'short', 'empty', 'repeat', 'failed']);
const coinsFetched = new Counter(CATEGORY);
coinsFetched.declare(CATEGORIES);
const coinsUploaded = new Counter(CATEGORY, OUTCOME);
coinsUploaded.declare(CATEGORIES, Object.values(UPLOADED));
const coinsRetired = new Counter(CATEGORY);
coinsRetired.declare(CATEGORIES);
const coinsRemoved = new Counter(JOB);
coinsRemoved.declare(JOBS);
const housekeepingRuns = new Counter(JOB, OUTCOME);
housekeepingRuns.declare(JOBS, ['done', 'failed']);
const callsRefused = new Counter('aqm.reason');
const callsWithoutPlace = new Counter('aqm.kind', OUTCOME);
callsWithoutPlace.declare(['call', 'stream', 'health'], ['refused', 'ended']);
const limitsHit = new Counter('aqm.limit');
limitsHit.declare(['fetch', 'upload', 'reconcile', 'call', 'concurrency', 'token', 'anonymous', 'reflection']);
let logLinesLost = 0;
/** Time of the last success of each job, in seconds since 1970. */
const housekeepingSuccess = new Map<Job, number>();

export interface CountedFetch {
  readonly coinCategory: CoinCategory;
  readonly count: number;
  /** True if the fetch is over a limit and can only repeat an earlier answer. */
  readonly onlyRemembered?: boolean;
}

export type CountedAnswer =
  | { readonly coins: readonly { readonly coinCategory: CoinCategory }[]; readonly isRepeat: boolean }
  | { readonly error: unknown };

export type CountedDeviceAnswer =
  | {
      readonly devices: readonly { readonly coins: readonly { readonly coinCategory: CoinCategory }[] }[];
      readonly isRepeat: boolean;
    }
  | { readonly error: unknown };

/** Returns the outcome of a fetch; undefined for one over a limit, of which only an earlier answer was looked up. */
function outcomeOf(fetch: CountedFetch, answer: CountedAnswer): string | undefined {
  if ('error' in answer) return 'failed';
  if (answer.isRepeat) return 'repeat';
  if (fetch.onlyRemembered) return undefined;
  const { length } = answer.coins;
  return length === fetch.count ? 'whole' : length === 0 ? 'empty' : 'short';
}

/** Counts events. */
export const count = {
  /** @returns the outcome that was counted */
  fetch(fetch: CountedFetch | undefined, answer: CountedAnswer): string | undefined {
    const name = fetch && nameOf.get(fetch.coinCategory);
    if (!fetch || name === undefined) return undefined;
    const outcome = outcomeOf(fetch, answer);
    if (outcome === undefined) return undefined;
    fetches.add(1, name, outcome);
    if ('error' in answer || answer.isRepeat) return outcome;
    for (const { coinCategory } of answer.coins) coinsFetched.add(1, nameOf.get(coinCategory) ?? '');
    return outcome;
  },
  /** Counts a fetch for the devices of a user. @returns the outcome that was counted; undefined for a list of the devices */
  deviceFetch(
    fetch: (CountedFetch & { readonly deviceIds: readonly string[] }) | undefined,
    answer: CountedDeviceAnswer,
  ): string | undefined {
    if (!fetch || 'error' in answer) return fetch?.count ? count.fetch(fetch, answer as CountedAnswer) : undefined;
    const { devices, isRepeat } = answer;
    if (fetch.deviceIds.length === 0 && !isRepeat && !fetch.onlyRemembered) measure.devices(devices.length);
    if (fetch.count === 0) return undefined;
    const coins = devices.flatMap((device) => device.coins);
    // A user without devices has an empty answer.
    return count.fetch({ ...fetch, count: Math.max(1, devices.length * fetch.count) }, { coins, isRepeat });
  },
  /** @returns the outcomes that were counted */
  uploads(
    coins: readonly { readonly coinCategory: CoinCategory }[],
    outcomes: readonly UploadOutcome[],
  ): (string | undefined)[] {
    return coins.map(({ coinCategory }, index) => {
      const outcome = UPLOADED[outcomes[index] ?? 0];
      if (outcome !== undefined) coinsUploaded.add(1, nameOf.get(coinCategory) ?? '', outcome);
      return outcome;
    });
  },
  retired: (category: CoinCategory, coins: number) => coinsRetired.add(coins, nameOf.get(category) ?? ''),
  removed: (job: Job, coins: number) => coinsRemoved.add(coins, job),
  limitHit: (limit: 'fetch' | 'upload' | 'reconcile' | 'call' | 'concurrency' | 'token' | 'anonymous' | 'reflection') =>
    limitsHit.add(1, limit),
  /** Counts a call that ended with an error of the contract. */
  refused: (reason: string) => callsRefused.add(1, reason),
  /** Counts a call that got no place for open calls (transport/places.ts), or was ended to make room for another one. */
  withoutPlace: (kind: 'call' | 'stream' | 'health', outcome: 'refused' | 'ended') =>
    callsWithoutPlace.add(1, kind, outcome),
  /** Counts lines of the log that could not be written. */
  logLinesLost(lines: number): void {
    logLinesLost += lines;
  },
  housekeeping(job: Job, outcome: 'done' | 'failed'): void {
    housekeepingRuns.add(1, job, outcome);
    if (outcome === 'done') housekeepingSuccess.set(job, Date.now() / 1000);
  },
};

let durations: Histogram | undefined;
let batches: Histogram | undefined;
let devicesOfUsers: Histogram | undefined;

/** Records durations and sizes. Does nothing while metrics are off. */
export const measure = {
  get isOn(): boolean {
    return durations !== undefined;
  },
  call: (seconds: number, method: string, code: string) =>
    durations?.record(seconds, { 'rpc.system.name': 'grpc', 'rpc.method': method, 'rpc.response.status_code': code }),
  /** Records the number of fetches in one batch. */
  batch: (fetchCount: number) => batches?.record(fetchCount),
  /** Records the number of devices of one user, without saying whose. */
  devices: (deviceCount: number) => devicesOfUsers?.record(deviceCount),
};

export const DURATIONS_S = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const DEVICES = [0, 1, 2, 3, 4, 5, 8, 12, 20, 30, 50];
const BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/**
 * Starts to report all counters and measurements to the registered meter provider.
 * @param reasons all error reasons of the contract
 */
export function enableMetrics(reasons: readonly string[]): Meter {
  const meter = metrics.getMeter('aqm.coin');
  callsRefused.declare(reasons);
  durations = meter.createHistogram('rpc.server.call.duration', {
    description: 'Duration of calls, from the request headers to the status, by method and gRPC code',
    unit: 's',
    advice: { explicitBucketBoundaries: DURATIONS_S },
  });
  batches = meter.createHistogram('aqm.batch.size', {
    description: 'Fetches per batch (AQM_CLAIM_BATCH)',
    advice: { explicitBucketBoundaries: BATCHES },
  });
  devicesOfUsers = meter.createHistogram('aqm.devices.per_user', {
    description: 'Devices per user in the answers of FetchDeviceCoins for all devices',
    advice: { explicitBucketBoundaries: DEVICES },
  });
  const counter = (name: string, counts: Counter, description: string) =>
    meter.createObservableCounter(name, { description }).addCallback((result) => counts.observe(result));
  counter('aqm.fetches', fetches, 'Fetches by requested category and outcome');
  counter('aqm.coins.fetched', coinsFetched, 'Coins handed out, by their category, without repeats');
  counter('aqm.coins.uploaded', coinsUploaded, 'Coins uploaded, by category and outcome');
  counter('aqm.coins.retired', coinsRetired, 'Coins retired by reconciling or with their device');
  counter('aqm.coins.removed', coinsRemoved, 'Coins removed by a housekeeping job or the admin method of that name');
  counter('aqm.housekeeping.runs', housekeepingRuns, 'Scheduled runs of the housekeeping jobs');
  counter('aqm.calls.refused', callsRefused, 'Calls that ended with an error, by reason');
  counter(
    'aqm.calls.without_place',
    callsWithoutPlace,
    'Calls refused or ended because all places for open calls were taken',
  );
  counter('aqm.limits.hit', limitsHit, 'Fetches, uploads, reconciles, calls and invalid tokens over a rate limit');
  meter
    .createObservableCounter('aqm.log.lines_lost', { description: 'Lines of the log that could not be written' })
    .addCallback((result) => result.observe(logLinesLost));
  meter
    .createObservableGauge('aqm.housekeeping.last_success', {
      description: 'Time of the last successful run of a job, in seconds since 1970',
      unit: 's',
    })
    .addCallback((result) => {
      for (const [job, seconds] of housekeepingSuccess) result.observe(seconds, { [JOB]: job });
    });
  return meter;
}
