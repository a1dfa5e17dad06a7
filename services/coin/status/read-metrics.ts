import type { Readings } from '../telemetry/metrics-server';
import { emptyValues, indexOf, type Values } from './columns';

/** The value of a histogram. */
interface Histogram {
  readonly count: number;
  readonly sum?: number;
  readonly buckets: { readonly counts: readonly number[] };
}
type Labels = Readonly<Record<string, unknown>>;

/** The column to which a metric is added, by its name in OpenTelemetry and its labels. */
const COLUMN_OF: Readonly<Record<string, (labels: Labels) => string>> = {
  'aqm.calls.refused': (labels) => `reason.${labels['aqm.reason']}`,
  'aqm.fetches': (labels) => `fetches.${labels['aqm.outcome']}`,
  'aqm.coins.fetched': () => 'coinsFetched',
  'aqm.coins.uploaded': (labels) => (labels['aqm.outcome'] === 'inserted' ? 'coinsUploaded' : ''),
  'aqm.limits.hit': () => 'limitsHit',
  'aqm.calls.without_place': () => 'withoutPlace',
  'aqm.housekeeping.runs': (labels) => (labels['aqm.outcome'] === 'failed' ? 'housekeepingFailed' : ''),
  'aqm.log.lines_lost': () => 'logLinesLost',
  'aqm.calls.active': () => 'callsInFlight',
  'aqm.connections': () => 'connections',
  'aqm.batch.waiting': () => 'fetchesWaiting',
  'db.client.connection.count': (labels) => (labels['db.client.connection.state'] === 'used' ? 'poolUsed' : 'poolIdle'),
  'db.client.connection.max': () => 'poolMax',
  'db.client.connection.pending_requests': () => 'poolWaiting',
  'aqm.fence.up': () => 'fenceUp',
  'aqm.database.up': () => 'databaseUp',
  'aqm.token_keys.up': () => 'tokenKeysUp',
  'aqm.stock.coins': (labels) => `stock.${labels['aqm.coin_category']}`,
  'aqm.stock.empty_ratio': (labels) => `empty.${labels['aqm.coin_category']}`,
  'process.memory.usage': () => 'memoryBytes',
  'process.cpu.time': () => 'cpuSeconds',
};

/** The label of methods that are not of the coin services: health checks and reflection (interceptors/measure.ts). */
const OTHER = '_OTHER';

/** Returns the counters since the start of the process, and the levels now. */
export function readValues(readings: Readings): Values {
  const values = emptyValues();
  const add = (name: string, amount: number): void => {
    const index = indexOf(name);
    if (index !== undefined) values[index] = (values[index] || 0) + amount;
  };
  for (const { metrics } of readings.scopeMetrics) {
    for (const { descriptor, dataPoints } of metrics) {
      const columnOf = COLUMN_OF[descriptor.name];
      for (const { value, attributes } of dataPoints) {
        if (typeof value === 'number') add(columnOf?.(attributes) ?? '', value);
        else if (descriptor.name === 'aqm.batch.size') {
          const { count, sum = 0 } = value as Histogram;
          add('batches', count);
          add('batchedFetches', sum);
        } else if (descriptor.name === 'rpc.server.call.duration' && attributes['rpc.method'] !== OTHER) {
          const { count, buckets } = value as Histogram;
          add('calls', count);
          add(`code.${attributes['rpc.response.status_code']}`, count);
          for (const [index, inBucket] of buckets.counts.entries()) add(`duration.${index}`, inBucket);
        }
      }
    }
  }
  return values;
}
