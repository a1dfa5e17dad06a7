import cluster from 'node:cluster';
import { setTimeout } from 'node:timers/promises';
import type { Logger } from 'pino';
import { type Config, readConfig } from './config';
import { effectiveSettings, shownText } from './config/read-settings';
import { readVersion } from './config/version';
import { openPostgres } from './database/open';
import { prepareDatabase, serverVersion } from './database/preflight';
import { requireDatabase } from './database-location';
import { Fence } from './fence/fence';
import { FENCE_REASONS } from './fence/verify';
import { watchDatabase } from './fence/watch-database';
import { startHousekeeping } from './housekeeping';
import { openTokenKeys } from './identity/token-keys';
import { verifyWith } from './identity/verify-token';
import { openLimits } from './limits/open-limits';
import { openLog } from './logger';
import { REASONS } from './rpc/status';
import { CoinServer } from './server';
import type { ServingState } from './serving-state';
import { listenForStop, Startup, StoppedError, stopped } from './startup';
import { processFacts } from './status/facts';
import { serveStatus } from './status/serve-status';
import { CoinInventoryServer } from './store/coin-inventory-server';
import { keepFetchGrace } from './store/fetch-grace';
import { StockSampler } from './store/stock-sampler';
import { registerGauges } from './telemetry/gauges';
import { enableMetrics } from './telemetry/metrics';
import { metricsPortsOfOthers, startTelemetry } from './telemetry/start-telemetry';
import { requireFreeAddress } from './transport/address';
import { Certificates } from './transport/certificates';
import { PassedConnections } from './transport/passed-connections';
import { announce, isPrimary, runWorkers, workerLog } from './workers';

/**
 * The number of tokens that are kept as verified, for each connection there may be: users who come back with another
 * connection, and proxies that share theirs among users.
 */
const TOKENS_PER_CONNECTION = 2;

/** The exit code of a process that ends with an exception which nothing caught. */
const EXIT_CODE_OF_NODE = 1;

/**
 * The longest time between two readings of the stock where the status page shows it, in milliseconds. A stock that
 * becomes empty must be seen within a minute.
 */
const STATUS_STOCK_MS = 20_000;

/** Runs the coin service until a signal stops it (`aqm serve`): configuration, database, server, signals. */
export async function main(): Promise<void> {
  const config = readConfig(process.env);
  requireDatabase(config, { creates: true });
  // The primary process did it for its workers.
  if (!cluster.isWorker) await requireFreeAddress(config.host, config.port);
  const { logger, flush } = openLog(config.logLevel);
  // Node would write them as text among the lines of JSON.
  process.removeAllListeners('warning').on('warning', (warning) => logger.warn({ err: warning }, 'warning of Node'));
  process.on('uncaughtException', (error, origin) => {
    logger.fatal({ err: error, origin }, 'the service ends with an unexpected error');
    void flush().then((isWritten) => {
      if (isWritten) process.exit(EXIT_CODE_OF_NODE);
      process.kill(process.pid, 'SIGKILL');
    });
  });
  const stop = listenForStop();
  if (!cluster.isWorker) logger.info({ ...readVersion(), settings: shownSettings() }, 'starting');
  try {
    if (isPrimary(config)) await runWorkers(config, logger, stop);
    else await serve(config, workerLog(logger), stop);
    logger.info('stopped');
  } catch (error) {
    // A start that was interrupted by a signal is no failure.
    if (!(error instanceof StoppedError)) throw error;
    logger.info({ signal: error.signal }, 'stopped before it was ready');
  } finally {
    // The kernel would not let the process exit.
    if (!(await flush())) process.kill(process.pid, 'SIGKILL');
  }
}

/** Returns the settings that have a value, as `aqm config` shows them. */
function shownSettings(): Record<string, string | null> {
  const shown = effectiveSettings(process.env).filter(({ text }) => text !== undefined);
  return Object.fromEntries(shown.map((effective) => [effective.setting.env, shownText(effective)]));
}

/** The longest time that a start which was interrupted waits for its statements, in milliseconds. */
const INTERRUPTED_TIMEOUT_MS = 2000;

/** Serves until a signal stops the process. @throws StoppedError if that is before it is ready */
async function serve(config: Config, logger: Logger, stop: AbortSignal): Promise<void> {
  const telemetry = await startTelemetry(process.env, logger, readVersion().version);
  const now = () => new Date();
  const tokenKeys = openTokenKeys(config, now, logger);
  const maxCached = TOKENS_PER_CONNECTION * config.connections.maxConnections;
  const certificates = config.tls ? new Certificates(config.tls, logger) : undefined;

  const postgres = await openPostgres(config, logger, stop);
  let isReady = false;
  try {
    const limits = openLimits(config, logger);
    const { maxCalls, maxWaitMs, connections } = config;
    const server = new CoinServer({
      limits,
      verifyToken: verifyWith(tokenKeys, config.tokenRules, now, maxCached),
      logger,
      now,
      maxCalls,
      maxWaitMs,
      waiting: postgres.waiting,
      connections,
      connectionSource: cluster.isWorker ? new PassedConnections() : undefined,
      hasReflection: config.hasReflection,
    });
    let state: ServingState = { isUp: false, isFenced: false };
    let store: CoinInventoryServer | undefined;
    let openedFence: Fence | undefined;
    let stock: StockSampler | undefined;
    /** The reason for which the start waits. */
    let waitingFor: string | undefined;
    if (telemetry.hasMetrics) {
      registerGauges(enableMetrics(REASONS), { ...readVersion(), fenceReasons: FENCE_REASONS }, () => ({
        callsInFlight: server.callsInFlight,
        connections: server.connections,
        fetchesWaiting: store?.waiting ?? 0,
        pool: {
          used: postgres.pool.totalCount - postgres.pool.idleCount,
          idle: postgres.pool.idleCount,
          max: config.poolSize,
          waiting: postgres.waiting.count,
        },
        isFenced: state.isFenced,
        fenceReason: state.isFenced ? openedFence?.fenceReason?.reason : undefined,
        isDatabaseUp: state.isUp,
        areTokenKeysUp: tokenKeys.remote?.isUp,
        tokenKeysFetchTime: tokenKeys.remote?.fetchTime,
        certificateExpiry: certificates?.expiry,
        stock: stock?.levels,
      }));
    }

    const statusServer = config.hasStatusPage ? telemetry.metricsServer : undefined;
    const statusPage =
      statusServer &&
      serveStatus({
        server: statusServer,
        otherPorts: metricsPortsOfOthers(process.env, config.workers),
        log: logger,
        facts: () =>
          processFacts({
            isReady,
            waitingFor,
            isStopping: stop.aborted,
            fenceReason: openedFence?.fenceReason?.reason,
            postgresVersion: stock?.levels?.postgresVersion,
            tokenKeys: config.tokenKeys,
            fetchTime: tokenKeys.remote?.fetchTime,
            certificateExpiry: certificates?.expiry,
          }),
      });

    let listening: Promise<string> | undefined;
    const listen = () => {
      listening ??= server.listen(config.host, config.port, certificates);
      return listening;
    };
    const startup = new Startup({
      timeoutMs: config.startTimeoutMs,
      stop,
      log: logger,
      // Health is answered while the start waits: the process is sound, and not ready.
      onWaiting: async (error) => {
        waitingFor = error.reason;
        server.refuse(error);
        await listen();
      },
    });
    let postgresql: string | undefined;
    const fence = await startup.until(async () => {
      await prepareDatabase(postgres, config, logger, stop);
      postgresql = await serverVersion(postgres.db);
      return Fence.open({ db: postgres.db, folder: config.fenceDir, poolSize: config.poolSize, log: logger });
    });
    openedFence = fence;
    waitingFor = undefined;
    await startup.until(async () => tokenKeys.remote?.fetch());

    const { fetchGraceSeconds, stockLimit, maxDevices, batching } = config;
    const rules = { fetchGraceSeconds, stockLimit, maxDevices, batching };
    store = new CoinInventoryServer(postgres.db, fence, rules, postgres.replica);
    const grace = await startup.until(() => keepFetchGrace(postgres.db, fetchGraceSeconds, logger));
    server.serve(store);
    if (telemetry.hasMetrics) {
      const intervalMs = Math.min(telemetry.intervalMs, statusServer ? STATUS_STOCK_MS : Number.POSITIVE_INFINITY);
      stock = new StockSampler(postgres.db, intervalMs);
    }
    const housekeeping = startHousekeeping(store, logger);
    const deletions = store.deletedUsers.watch();
    const watch = watchDatabase(fence, logger, (now) => {
      state = now;
      server.setServing(now);
    });
    const address = await listen();
    announce(address, logger);
    isReady = true;
    waitingFor = undefined;
    logger.info({ address, ...readVersion(), postgresql }, 'accepting calls');

    logger.info({ signal: await stopped(stop) }, 'stopping after accepted calls are answered');
    watch.stop();
    grace.stop();
    stock?.stop();
    housekeeping.stop();
    deletions.stop();
    certificates?.close();
    tokenKeys.remote?.close();
    await server.stop(config.drainTimeoutMs);
    statusPage?.close();
    await limits.close();
    await fence.close();
  } finally {
    const closed = postgres.close();
    // The interrupted work may be a statement that waits for the migration of another process.
    await (isReady || postgres.isEmbedded ? closed : Promise.race([closed, setTimeout(INTERRUPTED_TIMEOUT_MS)]));
    await telemetry.stop();
  }
}
