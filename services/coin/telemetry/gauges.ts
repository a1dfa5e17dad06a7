import type { Meter } from '@opentelemetry/api';

/** Stock and table sizes of the whole database, and its version. */
export interface StockLevels {
  /** Coins in stock by name of their category. */
  readonly coins: ReadonlyMap<string, number>;
  readonly tables: readonly { readonly name: string; readonly rows: number; readonly bytes: number }[];
  /**
   * The share of devices that have no coin of a category in stock, by name of the category; 0 to 1. Counts
   * devices that published coins of it. An empty map if it could not be estimated.
   */
  readonly emptyRatios: ReadonlyMap<string, number>;
  /** The version of PostgreSQL, such as 18.4. */
  readonly postgresVersion: string;
}

/** Values that stay the same while the process runs. */
export interface BuildInfo {
  /** The version of this package. */
  readonly version: string;
  /** The Git commit that was built; null if the build did not know it. */
  readonly commit: string | null;
  /** The version of Node. */
  readonly node: string;
  /** The names of all reasons for which the fence may be up. */
  readonly fenceReasons: readonly string[];
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
  /** The reason for which the fence is up; undefined while it is not. */
  readonly fenceReason: string | undefined;
  readonly isDatabaseUp: boolean;
  /** undefined if the token keys are not fetched from a URL. */
  readonly areTokenKeysUp: boolean | undefined;
  /** Time of the latest successful fetch of the token keys; undefined if there was none, or they have no URL. */
  readonly tokenKeysFetchTime: Date | undefined;
  /** End of validity of the TLS certificate in use; undefined without TLS. */
  readonly certificateExpiry: Date | undefined;
  /** undefined if the stock was not read yet, or could not be read. */
  readonly stock: StockLevels | undefined;
}

const POOL = { 'db.client.connection.pool.name': 'coin' };

const inSeconds = (time: Date) => time.getTime() / 1000;

/** Registers the gauges. `read` is called at each export. */
export function registerGauges(meter: Meter, build: BuildInfo, read: () => GaugeValues): void {
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
  const fenceReason = gauge('aqm.fence.reason', '1 for the reason for which the fence is up, 0 for all others');
  const tokenKeysSuccess = gauge(
    'aqm.token_keys.last_success',
    'Time of the latest successful fetch of the token keys, in seconds since 1970',
    's',
  );
  const certificateExpiry = gauge(
    'aqm.certificate.expiry',
    'End of validity of the TLS certificate in use, in seconds since 1970',
    's',
  );
  const buildInfo = gauge(
    'aqm.build.info',
    '1; the labels are the version and commit of the service, and the version of Node',
  );
  const databaseInfo = gauge('aqm.database.info', '1; the label is the version of PostgreSQL');
  const emptyRatio = gauge(
    'aqm.stock.empty_ratio',
    'Share of devices that published coins of a category and have none left in stock; an estimate from a sample of users',
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
      for (const reason of build.fenceReasons)
        result.observe(fenceReason, reason === values.fenceReason ? 1 : 0, { 'aqm.reason': reason });
      if (values.areTokenKeysUp !== undefined) result.observe(tokenKeysUp, values.areTokenKeysUp ? 1 : 0);
      if (values.tokenKeysFetchTime) result.observe(tokenKeysSuccess, inSeconds(values.tokenKeysFetchTime));
      if (values.certificateExpiry) result.observe(certificateExpiry, inSeconds(values.certificateExpiry));
      result.observe(buildInfo, 1, {
        version: build.version,
        commit: build.commit ?? 'unknown',
        node_version: build.node,
      });
      if (values.stock) result.observe(databaseInfo, 1, { postgres_version: values.stock.postgresVersion });
      for (const [name, coins] of values.stock?.coins ?? [])
        result.observe(stock, coins, { 'aqm.coin_category': name });
      for (const [name, ratio] of values.stock?.emptyRatios ?? [])
        result.observe(emptyRatio, ratio, { 'aqm.coin_category': name });
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
      fenceReason,
      tokenKeysUp,
      tokenKeysSuccess,
      certificateExpiry,
      buildInfo,
      databaseInfo,
      emptyRatio,
      stock,
      rows,
      size,
      memory,
      utilization,
      cpu,
    ],
  );
}
