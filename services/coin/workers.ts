import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import type { Logger } from 'pino';
import type { Config } from './config';
import { type OpenPostgres, openPostgres } from './database/open';
import { prepareDatabase } from './database/preflight';
import { isWorthWaiting, stopped, unlessStopped } from './startup';
import { metricsPortOf } from './telemetry/start-telemetry';
import { ConnectionDistributor } from './transport/connection-distributor';

/** Pause before a worker that died is replaced, in milliseconds. It doubles while replacements die before they are ready. */
const MIN_PAUSE_MS = 100;
const MAX_PAUSE_MS = 10_000;
/** Time that a worker has to exit beyond its drain timeout, in milliseconds. */
const EXIT_TIMEOUT_MS = 10_000;

/** The message by which a worker says that it accepts calls. */
const READY = 'ready';

export interface WorkersOptions extends Pick<Config, 'workers' | 'drainTimeoutMs' | 'host' | 'port' | 'connections'> {
  readonly log: Logger;
}

/**
 * Runs several processes of this service at one address. This process accepts the connections and distributes them
 * round-robin. A worker that dies is replaced; only the calls on its own connections fail, as if the service had died.
 */
export class Workers {
  readonly #options: WorkersOptions;
  readonly #connections: ConnectionDistributor;
  readonly #running = new Set<Worker>();
  readonly #pauses = new Set<NodeJS.Timeout>();
  /** The number of deaths since a worker last became ready. */
  #deaths = 0;
  #isStopping = false;

  constructor(options: WorkersOptions) {
    this.#options = options;
    this.#connections = new ConnectionDistributor({ ...options, maxWaiting: options.connections.maxConnections });
    // Their environment is this one. The file may have changed since it was read.
    cluster.setupPrimary({ args: withoutEnvFile(process.argv.slice(2)) });
  }

  /**
   * Starts the workers.
   * @returns their address when all of them accept calls
   * @throws WorkerEndedError if one ends before that, StoppedError if a signal stops the process before that
   */
  async start(stop: AbortSignal): Promise<string> {
    const starting = Array.from({ length: this.#options.workers }, (_, place) => this.#fork(place));
    try {
      await unlessStopped(stop, Promise.all(starting.map(readyOrGone)));
    } catch (error) {
      await this.stop();
      // The signal may have reached the workers too, and ended them first.
      throw stop.reason ?? error;
    }
    for (const [place, worker] of starting.entries()) this.#restartOnExit(worker, place);
    return this.#connections.listen();
  }

  /** Lets every worker answer the calls that it accepted, and resolves when all have exited. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const pause of this.#pauses) clearTimeout(pause);
    this.#connections.close();
    const gone = [...this.#running].map((worker) => once(worker, 'exit'));
    this.#kill('SIGTERM');
    const late = setTimeout(() => this.#kill('SIGKILL'), this.#options.drainTimeoutMs + EXIT_TIMEOUT_MS);
    await Promise.all(gone);
    clearTimeout(late);
  }

  #kill(signal: NodeJS.Signals): void {
    for (const worker of this.#running) worker.process.kill(signal);
  }

  #fork(place: number): Worker {
    const worker = cluster.fork(metricsPortOf(process.env, place));
    this.#running.add(worker);
    this.#connections.add(worker);
    worker.once('exit', () => this.#running.delete(worker));
    return worker;
  }

  /** Restarts the worker when it exits, and its replacement too. */
  #restartOnExit(worker: Worker, place: number): void {
    const onExit = (code: number | null, signal: string | null) => {
      if (this.#isStopping) return;
      const pauseMs = Math.min(MAX_PAUSE_MS, MIN_PAUSE_MS * 2 ** this.#deaths);
      this.#deaths += 1;
      this.#options.log.warn({ worker: worker.process.pid, code, signal, pauseMs }, 'a worker died');
      const pause = setTimeout(() => {
        this.#pauses.delete(pause);
        const next = this.#fork(place);
        void ready(next).then(() => {
          this.#deaths = 0;
        });
        this.#restartOnExit(next, place);
      }, pauseMs);
      this.#pauses.add(pause);
    };
    if (worker.isDead()) onExit(worker.process.exitCode, worker.process.signalCode);
    else worker.once('exit', onExit);
  }
}

/** Resolves when the worker accepts calls. */
function ready(worker: Worker): Promise<void> {
  return new Promise((resolve) => {
    worker.on('message', (message) => {
      if (message === READY) resolve();
    });
  });
}

/** Resolves when the worker accepts calls. @throws WorkerEndedError if it exits before that */
async function readyOrGone(worker: Worker): Promise<void> {
  const gone = once(worker, 'exit').then(() => Promise.reject(new WorkerEndedError()));
  await Promise.race([ready(worker), gone]);
}

/** Reports that a worker ended before it was ready. The worker has logged the reason. */
export class WorkerEndedError extends Error {
  override readonly name = 'WorkerEndedError';
  constructor() {
    super('A worker could not start; its own message above says why.');
  }
}

/** Reports that calls are accepted at `address`: on stdout, or to the process that started this worker. */
export function announce(address: string, log: Logger): void {
  if (cluster.isWorker) {
    process.send?.(READY);
    return;
  }
  // Without this, an unreadable stdout would end the process.
  process.stdout.on('error', (error) => log.warn({ err: error }, 'cannot write the "ready" line to stdout'));
  process.stdout.write(`${JSON.stringify({ msg: 'ready', address, pid: process.pid })}\n`);
}

/** Adds the process id to the log lines of a worker. */
export function workerLog(log: Logger): Logger {
  return cluster.isWorker ? log.child({ worker: process.pid }) : log;
}

/** Returns true if this process runs workers instead of serving calls itself. */
export function isPrimary({ workers }: Config): boolean {
  return workers > 1 && cluster.isPrimary;
}

/** Runs the service as several workers, until a signal stops it. @throws StoppedError if that is before it is ready */
export async function runWorkers(config: Config, log: Logger, stop: AbortSignal): Promise<void> {
  // Opened here, so that an embedded PostgreSQL outlives its workers and a wrong database is reported once.
  const postgres = await openPostgres(config, log, stop);
  try {
    await unlessStopped(stop, prepareOnce(config, postgres, log, stop));
    const workers = new Workers({ ...config, log });
    announce(await workers.start(stop), log);
    log.info({ signal: await stopped(stop) }, 'stopping the workers');
    await workers.stop();
  } finally {
    await postgres.close();
  }
}

/**
 * Prepares the database if it answers. If it does not, the workers wait for it, because they answer health checks
 * meanwhile.
 */
async function prepareOnce(config: Config, postgres: OpenPostgres, log: Logger, stop: AbortSignal): Promise<void> {
  try {
    await prepareDatabase(postgres, config, log, stop);
  } catch (error) {
    if (config.startTimeoutMs === 0 || !isWorthWaiting(error)) throw error;
  }
}

/** Removes the option --env-file of `aqm` and its value. */
function withoutEnvFile(args: readonly string[]): string[] {
  return args.filter((arg, index) => !arg.startsWith('--env-file') && args[index - 1] !== '--env-file');
}
