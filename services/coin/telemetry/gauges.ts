import type { Meter } from '@opentelemetry/api';

/** Stock and table sizes of the whole database. */
export interface StockLevels {
  /** Coins in stock by name of their category. */
  readonly coins: ReadonlyMap<string, number>;
  readonly tables: readonly { readonly name: string; readonly rows: number; readonly bytes: number }[];
}

/** Current values of the observable gauges. */
export interface GaugeValues {
  readonly callsInFlight: number;
  readonly connections: number;
  /** Fetches that wait for the next batch. */
  readonly fetchesWaiting: number;
  readonly pool: {
    readonly used: number;
    readonly idle: number;
    readonly max: number;
    /** Statements that wait for a connection. */
    readonly waiting: number;
  };
  readonly isFenced: boolean;
  readonly isDatabaseUp: boolean;
  /** undefined if the token keys are not fetched from a URL. */
  readonly areTokenKeysUp: boolean | undefined;
  /** undefined if the stock was not read yet, or could not be read. */
  readonly stock: StockLevels | undefined;
}

const POOL = { 'db.client.connection.pool.name': 'coin' };

/** Registers the gauges. `read` is called at each export. */
export function registerGauges(meter: Meter, read: () => GaugeValues): void {
  const gauge = (name: string, description: string, unit?: string) =>
    meter.createObservableGauge(name, { description, ...(unit && { unit }) });
  const calls = gauge('aqm.calls.active', 'Calls in flight');
  const connections = gauge('aqm.connections', 'Client connections');
  const waiting = gauge('aqm.batch.waiting', 'Fetches that wait for the next batch (AQM_CLAIM_BATCH)');
  const poolCount = gauge('db.client.connection.count', 'Connections to PostgreSQL, by state');
  const poolMax = gauge('db.client.connection.max', 'Maximum number of connections to PostgreSQL (AQM_POOL_SIZE)');
  const poolWaiting = gauge('db.client.connection.pending_requests', 'Statements that wait for a connection');
  const fenced = gauge(
    'aqm.fence.up',
    '1 while the database is fenced: fetches and uploads are refused until an operator decides',
  );
  const databaseUp = gauge('aqm.database.up', '1 if PostgreSQL responded within the last two seconds');
  const tokenKeysUp = gauge(
    'aqm.token_keys.up',
    '1 if the latest fetch of the token keys (AQM_TOKEN_JWKS_URL) succeeded',
  );
  const stock = gauge(
    'aqm.stock.coins',
    'Fetchable coins in stock, of all users, by category; an estimate for a large stock',
  );
  const rows = gauge('aqm.table.rows', 'Estimated rows of a table');
  const size = gauge('aqm.table.size', 'Size of a table on disk, including indexes and TOAST', 'By');
  const memory = gauge('process.memory.usage', 'Resident memory', 'By');
  const utilization = gauge('nodejs.eventloop.utilization', 'Event loop utilization since the last export, 0 to 1');
  const cpu = meter.createObservableCounter('process.cpu.time', {
    description: 'CPU time, user and system',
    unit: 's',
  });

  let previous = performance.eventLoopUtilization();
  meter.addBatchObservableCallback(
    (result) => {
      const values = read();
      result.observe(calls, values.callsInFlight);
      result.observe(connections, values.connections);
      result.observe(waiting, values.fetchesWaiting);
      result.observe(poolCount, values.pool.used, { ...POOL, 'db.client.connection.state': 'used' });
      result.observe(poolCount, values.pool.idle, { ...POOL, 'db.client.connection.state': 'idle' });
      result.observe(poolMax, values.pool.max, POOL);
      result.observe(poolWaiting, values.pool.waiting, POOL);
      result.observe(fenced, values.isFenced ? 1 : 0);
      result.observe(databaseUp, values.isDatabaseUp ? 1 : 0);
      if (values.areTokenKeysUp !== undefined) result.observe(tokenKeysUp, values.areTokenKeysUp ? 1 : 0);
      for (const [name, coins] of values.stock?.coins ?? [])
        result.observe(stock, coins, { 'aqm.coin_category': name });
      for (const table of values.stock?.tables ?? []) {
        result.observe(rows, table.rows, { 'aqm.table': table.name });
        result.observe(size, table.bytes, { 'aqm.table': table.name });
      }
      result.observe(memory, process.memoryUsage.rss());
      const { user, system } = process.cpuUsage();
      result.observe(cpu, (user + system) / 1e6);
      const now = performance.eventLoopUtilization();
      result.observe(utilization, performance.eventLoopUtilization(now, previous).utilization);
      previous = now;
    },
    [
      calls,
      connections,
      waiting,
      poolCount,
      poolMax,
      poolWaiting,
      fenced,
      databaseUp,
      tokenKeysUp,
      stock,
      rows,
      size,
      memory,
      utilization,
      cpu,
    ],
  );
}
