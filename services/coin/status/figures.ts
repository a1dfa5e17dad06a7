import { BOUNDS_S, CATEGORIES, CODES, columnOf, REASONS, type Values } from './columns';
import { failures } from './failures';
import { SAMPLE_S } from './samples';

/** The figures of one period in units that people read. null: unknown, or there was nothing to measure. */
export interface Figures {
  /** The length of the period, in seconds. */
  readonly seconds: number;
  /** Calls of the coin services per second, refused ones included. Health checks are not counted. */
  readonly callsPerSecond: number;
  /** Durations of calls in milliseconds, estimated from a histogram. */
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
  /** Calls in the period by gRPC code, without codes that did not occur. */
  readonly codes: Readonly<Record<string, number>>;
  /** Failed calls in the period by reason, without reasons that did not occur. */
  readonly reasons: Readonly<Record<string, number>>;
  /** Fetches in the period by outcome, each item of a batch counted. */
  readonly fetches: Readonly<Record<'whole' | 'short' | 'empty' | 'repeat' | 'failed', number>>;
  readonly coinsFetchedPerSecond: number;
  readonly coinsUploadedPerSecond: number;
  /** Calls and items over a rate limit in the period. */
  readonly limitsHit: number;
  /** Calls without a place for open calls in the period. */
  readonly withoutPlace: number;
  /** Failed runs of housekeeping jobs in the period. */
  readonly housekeepingFailed: number;
  readonly logLinesLost: number;
  /** Mean number of fetches in one statement. */
  readonly batchSize: number | null;
  readonly fetchesWaiting: number | null;
  readonly callsInFlight: number | null;
  readonly connections: number | null;
  readonly pool: {
    readonly used: number | null;
    readonly max: number | null;
    /** Statements that wait for a connection. */
    readonly waiting: number | null;
  };
  readonly isDatabaseUp: boolean;
  readonly isFenced: boolean;
  /** null: the token keys are not fetched from a URL. */
  readonly areTokenKeysUp: boolean | null;
  /** Coins in stock by category; null: not read. */
  readonly stock: Readonly<Record<string, number | null>>;
  /**
   * Share of the users who published coins of a category and have none left, from 0 to 1; an estimate from a sample.
   * null: not read, or no user published any.
   */
  readonly empty: Readonly<Record<string, number | null>>;
  /** Resident memory, in bytes. */
  readonly memoryBytes: number | null;
  /** Processor time: 1 is one whole core. */
  readonly cpuCores: number;
  /** Busy share of the event loop, from 0 to 1; of the busiest process. */
  readonly eventLoop: number | null;
}

const orNull = (value: number): number | null => (Number.isNaN(value) ? null : value);

/** Converts the values of a period of `seconds`. */
export function figuresOf(values: Values, seconds: number): Figures {
  const of = (name: string) => columnOf(values, name);
  const perSecond = (name: string) => (seconds > 0 ? of(name) / seconds : 0);
  const level = (name: string) => orNull(of(name));
  const tokenKeysUp = level('tokenKeysUp');
  return {
    seconds,
    callsPerSecond: perSecond('calls'),
    p50Ms: quantileMs(values, 0.5),
    p99Ms: quantileMs(values, 0.99),
    codes: occurred(values, 'code.', CODES),
    reasons: occurred(values, 'reason.', REASONS),
    fetches: {
      whole: of('fetches.whole'),
      short: of('fetches.short'),
      empty: of('fetches.empty'),
      repeat: of('fetches.repeat'),
      failed: of('fetches.failed'),
    },
    coinsFetchedPerSecond: perSecond('coinsFetched'),
    coinsUploadedPerSecond: perSecond('coinsUploaded'),
    limitsHit: of('limitsHit'),
    withoutPlace: of('withoutPlace'),
    housekeepingFailed: of('housekeepingFailed'),
    logLinesLost: of('logLinesLost'),
    batchSize: of('batches') > 0 ? of('batchedFetches') / of('batches') : null,
    fetchesWaiting: level('fetchesWaiting'),
    callsInFlight: level('callsInFlight'),
    connections: level('connections'),
    pool: { used: level('poolUsed'), max: level('poolMax'), waiting: level('poolWaiting') },
    isDatabaseUp: of('databaseUp') === 1,
    isFenced: of('fenceUp') === 1,
    areTokenKeysUp: tokenKeysUp === null ? null : tokenKeysUp === 1,
    stock: Object.fromEntries(CATEGORIES.map((name) => [name, level(`stock.${name}`)])),
    empty: Object.fromEntries(CATEGORIES.map((name) => [name, level(`empty.${name}`)])),
    memoryBytes: level('memoryBytes'),
    cpuCores: perSecond('cpuSeconds'),
    eventLoop: level('eventLoop'),
  };
}

/** The figures that the charts show, of one moment each, in columns. `time` is in seconds since 1970. */
export type History = Readonly<Record<(typeof CHARTED)[number], readonly (number | null)[]>> & {
  /** The distance of two moments, in seconds. */
  readonly every: number;
};

const CHARTED = [
  'time',
  'callsPerSecond',
  'refusedPerSecond',
  'p50Ms',
  'p99Ms',
  'batchSize',
  'fetchesWaiting',
  'poolUsed',
  'poolWaiting',
  'coinsFetchedPerSecond',
  'coinsUploadedPerSecond',
  'stockGold',
  'stockSilver',
  'stockBronze',
  'emptyGold',
  'emptySilver',
  'emptyBronze',
] as const;

/** Converts the samples of an hour to columns. A missing sample is a gap. */
export function historyOf(samples: readonly { time: number; seconds: number; values: Values }[]): History {
  const columns = Object.fromEntries(CHARTED.map((name): [string, (number | null)[]] => [name, []]));
  const push = (row: Record<(typeof CHARTED)[number], number | null>): void => {
    for (const name of CHARTED) columns[name]?.push(round(row[name]));
  };
  let previous = samples[0]?.time ?? 0;
  for (const { time, seconds, values } of samples) {
    if (time - previous > SAMPLE_S) push({ ...GAP, time: previous + SAMPLE_S });
    previous = time;
    const figures = figuresOf(values, seconds);
    push({
      ...figures,
      time,
      refusedPerSecond: seconds > 0 ? failures(figures.codes) / seconds : 0,
      poolUsed: figures.pool.used,
      poolWaiting: figures.pool.waiting,
      stockGold: figures.stock.GOLD ?? null,
      stockSilver: figures.stock.SILVER ?? null,
      stockBronze: figures.stock.BRONZE ?? null,
      emptyGold: figures.empty.GOLD ?? null,
      emptySilver: figures.empty.SILVER ?? null,
      emptyBronze: figures.empty.BRONZE ?? null,
    });
  }
  return { every: SAMPLE_S, ...columns } as History;
}

const GAP = Object.fromEntries(CHARTED.map((name) => [name, null])) as Record<(typeof CHARTED)[number], null>;

/** Three digits after the point, which is enough to read, and a third of the bytes. */
const round = (value: number | null): number | null => (value === null ? null : Math.round(value * 1000) / 1000);

function occurred(values: Values, prefix: string, names: readonly string[]): Record<string, number> {
  return Object.fromEntries(
    names.map((name): [string, number] => [name, columnOf(values, prefix + name)]).filter(([, count]) => count > 0),
  );
}

/** Interpolates within the bucket that has the quantile. In the last bucket, which has no bound, it is the lower bound. */
function quantileMs(values: Values, quantile: number): number | null {
  const counts = BOUNDS_S.map((_, index) => columnOf(values, `duration.${index}`));
  const rank = quantile * counts.reduce((sum, count) => sum + count, 0);
  if (rank === 0) return null;
  let below = 0;
  for (const [index, count] of counts.entries()) {
    const [from, to] = [BOUNDS_S[index - 1] ?? 0, BOUNDS_S[index] ?? Number.POSITIVE_INFINITY];
    if (below + count >= rank && count > 0) {
      return 1000 * (to === Number.POSITIVE_INFINITY ? from : from + ((to - from) * (rank - below)) / count);
    }
    below += count;
  }
  return null;
}
