import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/**
 * A network between a client and a service. It accepts every connection, and passes bytes on unless it is set to drop
 * them. It closes no connection by itself.
 */
export class Network {
  /** The connections that were accepted, in their order. */
  readonly accepted: Socket[] = [];
  /** False while new connections are accepted and then never hear a byte. */
  passes = true;
  readonly #dropped = new Set<Socket>();
  readonly #upstream = new Set<Socket>();
  readonly #server = createServer((socket) => this.#accept(socket));

  constructor(readonly serviceAddress: string) {}

  static async start(serviceAddress: string): Promise<Network> {
    const network = new Network(serviceAddress);
    await once(network.#server.listen(0, '127.0.0.1'), 'listening');
    return network;
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The number of connections that the client has not closed. */
  get open(): number {
    return this.accepted.filter((socket) => !socket.readableEnded && !socket.destroyed).length;
  }

  /** From now on no byte of the present connections arrives, in either direction. */
  dropConnections(): void {
    for (const socket of this.accepted) this.#dropped.add(socket);
  }

  /** Keeps the bytes of the present connections back until they are released. */
  hold(): void {
    for (const socket of [...this.accepted, ...this.#upstream]) socket.pause();
  }

  release(): void {
    for (const socket of [...this.accepted, ...this.#upstream]) socket.resume();
  }

  stop(): void {
    for (const socket of [...this.accepted, ...this.#upstream]) socket.destroy();
    this.#server.close();
  }

  #accept(socket: Socket): void {
    this.accepted.push(socket);
    socket.on('error', () => undefined);
    if (!this.passes) {
      socket.resume();
      return;
    }
    const [host, port] = this.serviceAddress.split(':');
    const upstream = connect(Number(port), host);
    this.#upstream.add(upstream);
    socket.on('data', (bytes) => {
      if (!this.#dropped.has(socket)) upstream.write(bytes);
    });
    upstream.on('data', (bytes) => {
      if (!this.#dropped.has(socket)) socket.write(bytes);
    });
    socket.on('end', () => upstream.destroy());
    // Nothing listens there: the client gets an error.
    upstream.on('error', () => socket.destroy());
  }
}
