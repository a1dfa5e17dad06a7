import type { Meter } from '@opentelemetry/api';

/** Stock and table sizes of the whole database. */
export interface StockLevels {
  /** By name of the category. */
  readonly coins: ReadonlyMap<string, number>;
  readonly tables: readonly { readonly name: string; readonly rows: number; readonly bytes: number }[];
}

/** What stands how high at the moment; looked at when somebody asks. */
export interface GaugeValues {
  readonly callsInFlight: number;
  readonly connections: number;
  /** Fetches that wait for a shared statement. */
  readonly fetchesWaiting: number;
  readonly pool: {
    readonly used: number;
    readonly idle: number;
    readonly most: number;
    /** Statements that wait for a connection. */
    readonly waiting: number;
  };
  readonly isFenced: boolean;
  readonly isDatabaseUp: boolean;
  /** undefined: not known yet, or no longer. */
  readonly stock: StockLevels | undefined;
}

const POOL = { 'db.client.connection.pool.name': 'coin' };

export function registerGauges(meter: Meter, look: () => GaugeValues): void {
  const gauge = (name: string, description: string, unit?: string) =>
    meter.createObservableGauge(name, { description, ...(unit && { unit }) });
  const calls = gauge('aqm.calls.active', 'Calls that are worked on');
  const connections = gauge('aqm.connections', 'Connections of clients');
  const waiting = gauge('aqm.batch.waiting', 'Fetches that wait for a statement that they share (AQM_CLAIM_BATCH)');
  const poolCount = gauge('db.client.connection.count', 'Connections to PostgreSQL, by state');
  const poolMost = gauge('db.client.connection.max', 'Connections to PostgreSQL there may be (AQM_POOL_SIZE)');
  const poolWaiting = gauge('db.client.connection.pending_requests', 'Statements that wait for a connection');
  const fenced = gauge('aqm.fence.up', '1: nothing is handed out or stored until an operator decides');
  const databaseUp = gauge('aqm.database.up', '1: PostgreSQL answered within the last second or two');
  const stock = gauge(
    'aqm.stock.coins',
    'Coins in stock that could be fetched, of all users, by category; an estimate where they are many',
  );
  const rows = gauge('aqm.table.rows', 'Rows of a table, as PostgreSQL estimates them');
  const size = gauge('aqm.table.size', 'What a table takes on disk, indexes and key bytes included', 'By');
  const memory = gauge('process.memory.usage', 'Resident memory', 'By');
  const utilization = gauge('nodejs.eventloop.utilization', 'How busy the process was since it was last asked, 0 to 1');
  const cpu = meter.createObservableCounter('process.cpu.time', { description: 'Processor time', unit: 's' });

  let since = performance.eventLoopUtilization();
  meter.addBatchObservableCallback(
    (result) => {
      const levels = look();
      result.observe(calls, levels.callsInFlight);
      result.observe(connections, levels.connections);
      result.observe(waiting, levels.fetchesWaiting);
      result.observe(poolCount, levels.pool.used, { ...POOL, 'db.client.connection.state': 'used' });
      result.observe(poolCount, levels.pool.idle, { ...POOL, 'db.client.connection.state': 'idle' });
      result.observe(poolMost, levels.pool.most, POOL);
      result.observe(poolWaiting, levels.pool.waiting, POOL);
      result.observe(fenced, levels.isFenced ? 1 : 0);
      result.observe(databaseUp, levels.isDatabaseUp ? 1 : 0);
      for (const [name, coins] of levels.stock?.coins ?? [])
        result.observe(stock, coins, { 'aqm.coin_category': name });
      for (const table of levels.stock?.tables ?? []) {
        result.observe(rows, table.rows, { 'aqm.table': table.name });
        result.observe(size, table.bytes, { 'aqm.table': table.name });
      }
      result.observe(memory, process.memoryUsage.rss());
      const { user, system } = process.cpuUsage();
      result.observe(cpu, (user + system) / 1e6);
      const now = performance.eventLoopUtilization();
      result.observe(utilization, performance.eventLoopUtilization(now, since).utilization);
      since = now;
    },
    [
      calls,
      connections,
      waiting,
      poolCount,
      poolMost,
      poolWaiting,
      fenced,
      databaseUp,
      stock,
      rows,
      size,
      memory,
      utilization,
      cpu,
    ],
  );
}
