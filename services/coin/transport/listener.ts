import type { Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from 'node:tls';
import type { Logger } from 'pino';
import type { Certificates } from './certificates';
import { type ConnectionSource, TcpPort } from './connection-source';

export interface ListenerOptions {
  /** undefined for plain text. */
  readonly certificates: Certificates | undefined;
  /** Supplies the connections; by default a port of this process. */
  readonly source?: ConnectionSource;
  /** Maximum number of connections in total. */
  readonly maxConnections: number;
  /** Maximum number of connections per client: an IPv4 address or a /64 network of IPv6. */
  readonly maxPerAddress: number;
  /** Timeout of the TLS handshake, in milliseconds. A connection that exceeds it is closed. */
  readonly handshakeTimeoutMs: number;
  readonly logger: Logger;
}

/**
 * A connection that the server has half-closed is destroyed after one to two of these intervals, in
 * milliseconds.
 */
const LINGER_MS = 2000;

/**
 * Accepts connections up to the limits, performs the TLS handshake, and passes usable connections
 * to `accept`.
 */
export class Listener {
  readonly #options: ListenerOptions;
  readonly #accept: (socket: Socket) => void;
  readonly #source: ConnectionSource;
  readonly #tls: TlsServer | undefined;
  /**
   * Open TCP sockets, and whether each was already half-closed by the server at the previous sweep.
   */
  readonly #sockets = new Map<Socket, boolean>();
  readonly #countByNetwork = new Map<string, number>();
  readonly #timer: NodeJS.Timeout;
  #refused = 0;
  /** Resolves `close`. */
  #onLastClosed: (() => void) | undefined;

  constructor(options: ListenerOptions, accept: (socket: Socket) => void) {
    this.#options = options;
    this.#accept = accept;
    this.#source = options.source ?? new TcpPort(options);
    this.#tls = options.certificates && this.#createTls(options.certificates);
    this.#timer = setInterval(() => this.#sweep(), LINGER_MS).unref();
  }

  get connections(): number {
    return this.#sockets.size;
  }

  /** Starts to accept connections. @returns the port, chosen by the system for port 0. @throws ListenError */
  listen(host: string, port: number): Promise<number> {
    return this.#source.open(host, port, (socket) => this.#admit(socket));
  }

  /** Stops accepting. Resolves when the last connection is closed. */
  async close(): Promise<void> {
    this.#source.close();
    if (this.#sockets.size > 0) await new Promise<void>((resolve) => (this.#onLastClosed = resolve));
    clearInterval(this.#timer);
  }

  /** Destroys all connections. */
  cut(): void {
    for (const socket of this.#sockets.keys()) socket.destroy();
  }

  #admit(socket: Socket): void {
    const network = networkOf(socket.remoteAddress ?? '');
    const networkCount = this.#countByNetwork.get(network) ?? 0;
    if (this.#sockets.size >= this.#options.maxConnections || networkCount >= this.#options.maxPerAddress) {
      this.#refused += 1;
      socket.resetAndDestroy();
      return;
    }
    this.#sockets.set(socket, false);
    this.#countByNetwork.set(network, networkCount + 1);
    socket.on('error', () => {});
    socket.once('close', () => {
      this.#sockets.delete(socket);
      const left = (this.#countByNetwork.get(network) ?? 1) - 1;
      if (left > 0) this.#countByNetwork.set(network, left);
      else this.#countByNetwork.delete(network);
      if (this.#sockets.size === 0) this.#onLastClosed?.();
    });
    if (this.#tls) this.#tls.emit('connection', socket);
    else this.#accept(socket);
  }

  #createTls(certificates: Certificates): TlsServer {
    const tls = createTlsServer({
      ...certificates.current,
      requestCert: certificates.isMutual,
      rejectUnauthorized: certificates.isMutual,
      ALPNProtocols: ['h2'],
      handshakeTimeout: this.#options.handshakeTimeoutMs,
    });
    certificates.onChange((current) => tls.setSecureContext(current));
    tls.on('secureConnection', (socket: TLSSocket) => {
      socket.on('error', () => {});
      this.#accept(socket);
    });
    // The handshake failed or timed out. Node does not close the connection itself.
    tls.on('tlsClientError', (_error, socket) => socket.destroy());
    return tls;
  }

  /**
   * Destroys connections that were half-closed a while ago, and logs refusals. A peer that does not
   * read can keep a connection that HTTP/2 has ended open for as long as it likes, or until the
   * network notices.
   */
  #sweep(): void {
    for (const [socket, wasHalfClosed] of this.#sockets) {
      if (wasHalfClosed) socket.destroy();
      else if (socket.writableEnded) this.#sockets.set(socket, true);
    }
    if (this.#refused === 0) return;
    this.#options.logger.warn(
      { refused: this.#refused, connections: this.#sockets.size },
      'connections refused: connection limit reached (total or per address)',
    );
    this.#refused = 0;
  }
}

/**
 * Returns the network that is counted as one client: an IPv4 address, or the /64 prefix of an IPv6
 * address.
 */
export function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!address.includes(':')) return address;
  const [head = '', tail] = address.split('::');
  const groups = head === '' ? [] : head.split(':');
  // "::" stands for all missing groups, which are zero.
  if (tail !== undefined) {
    const after = tail === '' ? [] : tail.split(':');
    while (groups.length + after.length < 8) groups.push('0');
    groups.push(...after);
  }
  return groups.slice(0, 4).join(':');
}
