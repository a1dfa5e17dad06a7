import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import type { Logger } from 'pino';
import type { Config } from './config';
import { openPostgres } from './database/open';
import { prepareDatabase } from './database/preflight';
import { metricsPortOf } from './telemetry/start-telemetry';

/** Pause before a worker that has died is started again, in milliseconds; doubled while it dies before it is ready. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 10_000;
/** Beyond its own drain timeout, how long a worker may take to end, in milliseconds. */
const END_PATIENCE_MS = 10_000;

export interface WorkersOptions extends Pick<Config, 'workers' | 'drainTimeoutMs'> {
  /** The port is not 0: so those that come later find the one of those that are there, and that of those that were. */
  readonly address: string;
  readonly log: Logger;
}

/**
 * Processes of this service that share one address: this one accepts the connections and hands them out by turns. One that
 * dies is started again; the calls on its connections fail as if the service had died, and no others.
 */
export class Workers {
  readonly #options: WorkersOptions;
  readonly #running = new Set<Worker>();
  readonly #pauses = new Set<NodeJS.Timeout>();
  /** Deaths since a worker last became ready. */
  #deaths = 0;
  #isStopping = false;

  constructor(options: WorkersOptions) {
    this.#options = options;
  }

  /** Resolves when all accept calls. @throws WorkerEndedError when one ends before */
  async start(): Promise<void> {
    const starting = Array.from({ length: this.#options.workers }, (_, place) => this.#fork(place));
    try {
      await Promise.all(starting.map(readyOrGone));
    } catch (error) {
      await this.stop();
      throw error;
    }
    for (const [place, worker] of starting.entries()) this.#replace(worker, place);
  }

  /** Every worker answers the calls that it accepted. Resolves when all are gone. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const pause of this.#pauses) clearTimeout(pause);
    const gone = [...this.#running].map((worker) => once(worker, 'exit'));
    this.#kill('SIGTERM');
    const late = setTimeout(() => this.#kill('SIGKILL'), this.#options.drainTimeoutMs + END_PATIENCE_MS);
    await Promise.all(gone);
    clearTimeout(late);
  }

  #kill(signal: NodeJS.Signals): void {
    for (const worker of this.#running) worker.process.kill(signal);
  }

  #fork(place: number): Worker {
    const worker = cluster.fork({ AQM_LISTEN: this.#options.address, ...metricsPortOf(process.env, place) });
    this.#running.add(worker);
    worker.once('exit', () => this.#running.delete(worker));
    return worker;
  }

  /** When it dies, by another one, and so on. */
  #replace(worker: Worker, place: number): void {
    const onExit = (code: number | null, signal: string | null) => {
      if (this.#isStopping) return;
      const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.#deaths);
      this.#deaths += 1;
      this.#options.log.warn({ worker: worker.process.pid, code, signal, pauseMs }, 'a worker has died');
      const pause = setTimeout(() => {
        this.#pauses.delete(pause);
        const next = this.#fork(place);
        next.once('message', () => {
          this.#deaths = 0;
        });
        this.#replace(next, place);
      }, pauseMs);
      this.#pauses.add(pause);
    };
    if (worker.isDead()) onExit(worker.process.exitCode, worker.process.signalCode);
    else worker.once('exit', onExit);
  }
}

async function readyOrGone(worker: Worker): Promise<void> {
  const gone = once(worker, 'exit').then(() => Promise.reject(new WorkerEndedError()));
  await Promise.race([once(worker, 'message'), gone]);
}

/** A worker has ended before it was ready; it has said why itself. */
export class WorkerEndedError extends Error {
  override readonly name = 'WorkerEndedError';
  constructor() {
    super('A worker could not start.');
  }
}

/** Says that calls are accepted at `address`: on stdout, or to the process whose worker this is. */
export function announce(address: string): void {
  if (cluster.isWorker) process.send?.('ready');
  else process.stdout.write(`${JSON.stringify({ msg: 'ready', address, pid: process.pid })}\n`);
}

/** Of a process among others, its lines name it. */
export function workerLog(log: Logger): Logger {
  return cluster.isWorker ? log.child({ worker: process.pid }) : log;
}

/** Whether this process is to run others, instead of serving itself. */
export function isPrimary({ workers }: Config): boolean {
  return workers > 1 && cluster.isPrimary;
}

/** The service as so many workers, until `stopped`. */
export async function runWorkers(config: Config, log: Logger, stopped: Promise<NodeJS.Signals>): Promise<void> {
  // An embedded PostgreSQL lives on while its workers come and go, and what is wrong with a database is said once.
  const postgres = await openPostgres(config, log);
  try {
    await prepareDatabase(postgres.db, config.migrationsDir, {
      migrateOlder: postgres.isEmbedded,
      ...(config.pooler === 'transaction' && { timeouts: config }),
    });
    const address = `${config.host}:${config.port || (await freePort(config.host))}`;
    const workers = new Workers({ ...config, address, log });
    await workers.start();
    announce(address);
    log.info({ signal: await stopped }, 'stopping the workers');
    await workers.stop();
  } finally {
    await postgres.close();
  }
}

async function freePort(host: string): Promise<number> {
  const server = createServer().listen({ host: host.replace(/^\[(.*)\]$/, '$1'), port: 0 });
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
