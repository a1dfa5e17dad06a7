import type { Logger } from 'pino';
import { type Config, readConfig } from './config';
import { openPostgres } from './database/open';
import { prepareDatabase } from './database/preflight';
import { Fence } from './fence/fence';
import { watchDatabase } from './fence/watch-database';
import { startHousekeeping } from './housekeeping';
import { openTokenKeys } from './identity/token-keys';
import { verifyWith } from './identity/verify-token';
import { openLimits } from './limits/open-limits';
import { createLogger } from './logger';
import { REASONS } from './rpc/status';
import { CoinServer } from './server';
import type { ServingState } from './serving-state';
import { CoinInventoryServer } from './store/coin-inventory-server';
import { keepFetchGrace } from './store/fetch-grace';
import { StockSampler } from './store/stock-sampler';
import { registerGauges } from './telemetry/gauges';
import { enableMetrics } from './telemetry/metrics';
import { startTelemetry } from './telemetry/start-telemetry';
import { Certificates } from './transport/certificates';
import { announce, isPrimary, runWorkers, workerLog } from './workers';

/** Runs the coin service until SIGTERM or SIGINT (`aqm serve`): configuration, database, server, signals. */
export async function main(): Promise<void> {
  const config = readConfig(process.env);
  const logger = createLogger(config.logLevel);
  const stopped = new Promise<NodeJS.Signals>((resolve) => {
    // Not `once`: under npm a Ctrl-C arrives twice, from the terminal and from npm, and the second must not end the process early.
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, resolve);
  });
  if (isPrimary(config)) await runWorkers(config, logger, stopped);
  else await serve(config, workerLog(logger), stopped);
  logger.info('stopped');
}

async function serve(config: Config, logger: Logger, stopped: Promise<NodeJS.Signals>): Promise<void> {
  const telemetry = await startTelemetry(process.env, logger);
  const now = () => new Date();
  const verifyToken = verifyWith(openTokenKeys(config, now, logger), config.tokenRules, now);
  const certificates = config.tls ? new Certificates(config.tls, logger) : undefined;

  const postgres = await openPostgres(config, logger);
  try {
    await prepareDatabase(postgres.db, config.migrationsDir, {
      migrateOlder: postgres.isEmbedded,
      ...(config.pooler === 'transaction' && { timeouts: config }),
    });
    const fence = await Fence.open({
      db: postgres.db,
      folder: config.fenceDir,
      poolSize: config.poolSize,
      log: logger,
    });
    const { fetchGraceSeconds, stockLimit, batching, maxCalls, maxWaitMs, connections } = config;
    const rules = { fetchGraceSeconds, stockLimit, batching };
    const store = new CoinInventoryServer(postgres.db, fence, rules, postgres.replica);
    const grace = await keepFetchGrace(postgres.db, fetchGraceSeconds, logger);
    const limits = openLimits(config, logger);
    const server = new CoinServer({
      store,
      limits,
      verifyToken,
      logger,
      now,
      maxCalls,
      maxWaitMs,
      waiting: postgres.waiting,
      connections,
    });
    const housekeeping = startHousekeeping(store, logger);
    let state: ServingState = { isUp: true, isFenced: false };
    const watch = watchDatabase(fence, logger, (now) => {
      state = now;
      server.setServing(now);
    });
    const stock = telemetry.hasMetrics ? new StockSampler(postgres.db, telemetry.intervalMs) : undefined;
    if (telemetry.hasMetrics) {
      registerGauges(enableMetrics(REASONS), () => ({
        callsInFlight: server.callsInFlight,
        connections: server.connections,
        fetchesWaiting: store.waiting,
        pool: {
          used: postgres.pool.totalCount - postgres.pool.idleCount,
          idle: postgres.pool.idleCount,
          max: config.poolSize,
          waiting: postgres.waiting.count,
        },
        isFenced: state.isFenced,
        isDatabaseUp: state.isUp,
        stock: stock?.levels,
      }));
    }

    const address = await server.listen(config.host, config.port, certificates);
    announce(address);
    logger.info({ address }, 'accepting calls');

    logger.info({ signal: await stopped }, 'stopping after accepted calls are answered');
    watch.stop();
    grace.stop();
    stock?.stop();
    housekeeping.stop();
    certificates?.close();
    await server.stop(config.drainTimeoutMs);
    await limits.close();
    await fence.close();
  } finally {
    await postgres.close();
    await telemetry.stop();
  }
}
