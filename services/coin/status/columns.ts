import { status } from '@grpc/grpc-js';
import { COIN_CATEGORIES } from '../../../gen/aqm/coin/v1/coin_categories';
import { REASONS } from '../rpc/status';
import { DURATIONS_S } from '../telemetry/metrics';

/** The numbers of one moment or of one period, in the order of COLUMNS. NaN: unknown. */
export type Values = Float64Array;

/** The upper bounds of the durations of calls, in seconds. The last one has no bound. */
export const BOUNDS_S: readonly number[] = [...DURATIONS_S, Number.POSITIVE_INFINITY];
export const CATEGORIES = COIN_CATEGORIES.map(({ name }): string => name);
export const CODES = Object.values(status).filter((name): name is string => typeof name === 'string');
export { REASONS };

/** Counted events. A sample has those of its period. Of several processes they are added. */
const COUNTED = [
  'calls',
  ...BOUNDS_S.map((_, index) => `duration.${index}`),
  ...CODES.map((code) => `code.${code}`),
  ...REASONS.map((reason) => `reason.${reason}`),
  ...['whole', 'short', 'empty', 'repeat', 'failed'].map((outcome) => `fetches.${outcome}`),
  'coinsFetched',
  'coinsUploaded',
  'limitsHit',
  'withoutPlace',
  'batches',
  'batchedFetches',
  'housekeepingFailed',
  'logLinesLost',
  'cpuSeconds',
];

/** Levels that add up over the processes. */
const ADDED = [
  'callsInFlight',
  'connections',
  'fetchesWaiting',
  'poolUsed',
  'poolIdle',
  'poolMax',
  'poolWaiting',
  'memoryBytes',
];
/** Levels of which the highest of all processes counts: bad news, and what every process reports alike. */
const HIGHEST = [
  'fenceUp',
  'eventLoop',
  ...CATEGORIES.map((name) => `stock.${name}`),
  ...CATEGORIES.map((name) => `empty.${name}`),
];
/** Levels of which the lowest of all processes counts: 1 is good and 0 is bad news. */
const LOWEST = ['databaseUp', 'tokenKeysUp'];

export const COLUMNS: readonly string[] = [...COUNTED, ...ADDED, ...HIGHEST, ...LOWEST];

const INDEX = new Map(COLUMNS.map((name, index) => [name, index]));
const isCounted = (index: number): boolean => index < COUNTED.length;

/** Returns the position of a column; undefined if there is none of this name. */
export const indexOf = (name: string): number | undefined => INDEX.get(name);

export const columnOf = (values: Values, name: string): number => values[INDEX.get(name) ?? -1] ?? Number.NaN;

export function emptyValues(): Values {
  const values = new Float64Array(COLUMNS.length).fill(Number.NaN);
  return values.fill(0, 0, COUNTED.length);
}

/** Returns what was counted between two readings, and the levels of the later one. */
export function difference(later: Values, earlier: Values): Values {
  // Within one process counters never fall.
  return later.map((value, index) => (isCounted(index) ? value - (earlier[index] ?? 0) : value));
}

/** Joins two periods that follow each other: their events, and the levels of the later one. */
export function followedBy(earlier: Values, later: Values): Values {
  return later.map((value, index) => (isCounted(index) ? value + (earlier[index] ?? 0) : value));
}

/** Joins the values of two processes at the same time. */
export function together(one: Values, other: Values): Values {
  return one.map((value, index) => {
    const second = other[index] ?? Number.NaN;
    if (Number.isNaN(value)) return second;
    if (Number.isNaN(second)) return value;
    const name = COLUMNS[index] ?? '';
    if (HIGHEST.includes(name)) return Math.max(value, second);
    if (LOWEST.includes(name)) return Math.min(value, second);
    return value + second;
  });
}
