import type { Worker } from 'node:cluster';
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import { TcpPort } from './connection-source';
import type { PrimaryMessage, WorkerMessage } from './passed-connections';

/**
 * The longest time that a connection waits for a worker, in milliseconds. Then it is reset. A gRPC client gives up a
 * connection after as long.
 */
const MAX_WAIT_MS = 20_000;
/** Minimum time between two reports of refused connections, in milliseconds. */
const REPORT_MS = 2000;

export interface DistributorOptions {
  readonly host: string;
  readonly port: number;
  /** Maximum number of connections that wait for a worker. Further ones are reset. */
  readonly maxWaiting: number;
  readonly log: Logger;
}

/** A worker that gets connections. */
interface Receiver {
  readonly worker: Worker;
  /** The connection that was sent to it and that it has not answered. */
  sent: Socket | undefined;
  /** True from `listen` to `closing`. */
  isOpen: boolean;
}

/**
 * Accepts the connections of an address and passes them round-robin to worker processes, one at a time to each. A copy
 * of each connection is kept until the worker has taken it, so that a connection whose worker dies or stops before that
 * goes to another one. node:cluster keeps such a connection open without a process that reads it.
 */
export class ConnectionDistributor {
  readonly #options: DistributorOptions;
  readonly #port: TcpPort;
  /** Workers that can get a connection now, the next one first. */
  readonly #free = new Set<Receiver>();
  /** Connections that wait for a worker, the oldest first. */
  readonly #waiting: Socket[] = [];
  #opening: Promise<number> | undefined;
  #isClosed = false;
  #refused = 0;

  constructor(options: DistributorOptions) {
    this.#options = options;
    this.#port = new TcpPort({ logger: options.log, pauseOnConnect: true });
  }

  /** Starts to listen, unless the request of a worker has done so. @returns the address, with the port that was chosen */
  async listen(): Promise<string> {
    return `${this.#options.host}:${await this.#open()}`;
  }

  /** Passes connections to a new worker from the moment at which it asks for them. */
  add(worker: Worker): void {
    const receiver: Receiver = { worker, sent: undefined, isOpen: false };
    worker.on('message', (message: WorkerMessage) => this.#onMessage(receiver, message));
    // The process has ended and all of its messages were received. At `exit` some may still be unread, among them that
    // it took a connection; `disconnect` is not emitted while a connection is unanswered.
    worker.process.once('close', () => {
      this.#leave(receiver);
      this.#passAgain(receiver);
    });
  }

  /** Stops listening, and resets the connections that wait for a worker. */
  close(): void {
    this.#isClosed = true;
    this.#port.close();
    for (const socket of this.#waiting.splice(0)) socket.resetAndDestroy();
  }

  #admit(socket: Socket): void {
    socket.on('error', () => {});
    socket.on('timeout', () => this.#giveUp(socket));
    if (this.#waiting.length >= this.#options.maxWaiting) {
      this.#refuse(socket);
      return;
    }
    socket.setTimeout(MAX_WAIT_MS);
    this.#waiting.push(socket);
    this.#distribute();
  }

  #distribute(): void {
    for (const receiver of this.#free) {
      const socket = this.#waiting.shift();
      if (!socket) return;
      this.#free.delete(receiver);
      receiver.sent = socket;
      receiver.worker.send('connection' satisfies PrimaryMessage, socket, { keepOpen: true }, ignore);
      send(receiver, 'sent');
    }
  }

  #onMessage(receiver: Receiver, message: WorkerMessage): void {
    if (message === 'listen') void this.#join(receiver);
    else if (message === 'closing') this.#leave(receiver);
    else if (message === 'declined') this.#passAgain(receiver);
    else if (message === 'taken' || message === 'missing') {
      const { sent } = receiver;
      receiver.sent = undefined;
      // Closes the copy of this process.
      if (message === 'taken') sent?.destroy();
      else if (sent) this.#refuse(sent);
      if (receiver.isOpen) this.#free.add(receiver);
      this.#distribute();
    }
  }

  #open(): Promise<number> {
    const { host, port } = this.#options;
    // A worker that starts while the service stops gets an answer, and no connections.
    if (this.#isClosed) return Promise.resolve(port);
    this.#opening ??= this.#port.open(host, port, (socket) => this.#admit(socket));
    return this.#opening;
  }

  async #join(receiver: Receiver): Promise<void> {
    try {
      send(receiver, { port: await this.#open() });
    } catch (error) {
      const { code, message } = (error as Error).cause as NodeJS.ErrnoException;
      send(receiver, { failure: { code, message } });
      return;
    }
    receiver.isOpen = true;
    this.#free.add(receiver);
    this.#distribute();
  }

  #leave(receiver: Receiver): void {
    receiver.isOpen = false;
    this.#free.delete(receiver);
  }

  /** Passes the connection that a worker did not take to the next one. */
  #passAgain(receiver: Receiver): void {
    const { sent } = receiver;
    if (!sent) return;
    receiver.sent = undefined;
    if (this.#isClosed) {
      sent.resetAndDestroy();
      return;
    }
    sent.setTimeout(MAX_WAIT_MS);
    this.#waiting.unshift(sent);
    this.#distribute();
  }

  /** Resets a connection that has waited for long. One that was sent to a worker may be the worker's. */
  #giveUp(socket: Socket): void {
    const index = this.#waiting.indexOf(socket);
    if (index < 0) return;
    this.#waiting.splice(index, 1);
    this.#refuse(socket);
  }

  #refuse(socket: Socket): void {
    socket.resetAndDestroy();
    this.#refused += 1;
    if (this.#refused > 1) return;
    setTimeout(() => {
      this.#options.log.warn({ refused: this.#refused }, 'connections refused: no worker could take them');
      this.#refused = 0;
    }, REPORT_MS).unref();
  }
}

function send({ worker }: Receiver, message: PrimaryMessage): void {
  worker.send(message, ignore);
}

/** A message that cannot be sent is for a worker that has died, whose end is noticed. */
function ignore(): void {}
