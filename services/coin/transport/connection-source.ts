import { createServer, type Server, type Socket } from 'node:net';
import type { Logger } from 'pino';
import { ListenError } from './address';

/** Supplies the connections of an address. */
export interface ConnectionSource {
  /** Begins to pass connections to `accept`. @returns the port, chosen by the system for port 0. @throws ListenError */
  open(host: string, port: number, accept: (socket: Socket) => void): Promise<number>;
  /** Ends the source. No connection is passed on afterwards; those that were passed on stay open. */
  close(): void;
}

export interface TcpPortOptions {
  readonly logger: Logger;
  /** True if connections are not read in this process (default false). */
  readonly pauseOnConnect?: boolean;
}

/** Accepts the connections of a TCP port in this process. */
export class TcpPort implements ConnectionSource {
  readonly #server: Server;
  readonly #log: Logger;

  constructor({ logger, pauseOnConnect = false }: TcpPortOptions) {
    this.#log = logger;
    this.#server = createServer({ noDelay: true, pauseOnConnect });
  }

  async open(host: string, port: number, accept: (socket: Socket) => void): Promise<number> {
    this.#server.on('connection', accept);
    await new Promise<void>((resolve, reject) => {
      const fail = (error: Error) => reject(new ListenError(`${host}:${port}`, error));
      this.#server.once('error', fail);
      // `exclusive`: node:cluster would otherwise let the primary process listen for a worker.
      this.#server.listen({ host: host.replace(/^\[(.*)\]$/, '$1'), port, exclusive: true }, () => {
        this.#server.off('error', fail);
        // Without a listener, a connection that cannot be accepted would end the process.
        this.#server.on('error', (err) => this.#log.warn({ err }, 'cannot accept a connection'));
        resolve();
      });
    });
    const address = this.#server.address();
    return typeof address === 'object' && address ? address.port : port;
  }

  close(): void {
    this.#server.close();
  }
}
