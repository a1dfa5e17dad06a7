import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from 'node:tls';
import type { Logger } from 'pino';
import type { Certificates } from './certificates';

export interface ListenerOptions {
  /** undefined: plain text. */
  readonly certificates: Certificates | undefined;
  readonly maxConnections: number;
  /** Of one address; of one network of 64 bits in IPv6. */
  readonly maxPerAddress: number;
  /** A connection that has not agreed on TLS after this long is cut, in milliseconds. */
  readonly handshakeTimeoutMs: number;
  readonly logger: Logger;
}

/** A connection that we have ended is cut after one to two of these, in milliseconds. */
const LINGER_MS = 2000;

/** Accepts connections up to the most there may be, and hands those that can be talked to on to `accept`. */
export class Listener {
  readonly #options: ListenerOptions;
  readonly #accept: (socket: Socket) => void;
  readonly #server: Server;
  readonly #tls: TlsServer | undefined;
  /** All there are, and whether we had ended it at the last look. What is encrypted replaces what is below it. */
  readonly #sockets = new Map<Socket, boolean>();
  readonly #ofAddress = new Map<string, number>();
  readonly #timer: NodeJS.Timeout;
  #refused = 0;

  constructor(options: ListenerOptions, accept: (socket: Socket) => void) {
    this.#options = options;
    this.#accept = accept;
    this.#server = createServer({ noDelay: true }, (socket) => this.#admit(socket));
    this.#tls = options.certificates && this.#createTls(options.certificates);
    this.#timer = setInterval(() => this.#look(), LINGER_MS).unref();
  }

  get connections(): number {
    return this.#sockets.size;
  }

  /** @returns the port, which was picked for port 0 */
  async listen(host: string, port: number): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ host: host.replace(/^\[(.*)\]$/, '$1'), port }, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
    const address = this.#server.address();
    return typeof address === 'object' && address ? address.port : port;
  }

  /** Accepts no more. Resolves when the last connection is gone. */
  async close(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    clearInterval(this.#timer);
  }

  /** Cuts all connections. */
  cut(): void {
    for (const socket of this.#sockets.keys()) socket.destroy();
  }

  #admit(socket: Socket): void {
    const network = networkOf(socket.remoteAddress ?? '');
    const ofAddress = this.#ofAddress.get(network) ?? 0;
    if (this.#sockets.size >= this.#options.maxConnections || ofAddress >= this.#options.maxPerAddress) {
      this.#refused += 1;
      socket.resetAndDestroy();
      return;
    }
    this.#sockets.set(socket, false);
    this.#ofAddress.set(network, ofAddress + 1);
    socket.on('error', () => {});
    socket.once('close', () => {
      this.#sockets.delete(socket);
      const left = (this.#ofAddress.get(network) ?? 1) - 1;
      if (left > 0) this.#ofAddress.set(network, left);
      else this.#ofAddress.delete(network);
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
    // The handshake failed or took too long, and Node leaves the connection to us.
    tls.on('tlsClientError', (_error, socket) => socket.destroy());
    return tls;
  }

  /**
   * A peer that does not read keeps a connection that HTTP/2 has ended for as long as it likes, or the network takes to
   * notice.
   */
  #look(): void {
    for (const [socket, hadEnded] of this.#sockets) {
      if (hadEnded) socket.destroy();
      else if (socket.writableEnded) this.#sockets.set(socket, true);
    }
    if (this.#refused === 0) return;
    this.#options.logger.warn(
      { refused: this.#refused, connections: this.#sockets.size },
      'connections were refused: there are as many as may be, in all or of one address',
    );
    this.#refused = 0;
  }
}

/** What one party easily has all of: an IPv4 address, or 64 bits of IPv6. */
export function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!address.includes(':')) return address;
  const [head = '', tail] = address.split('::');
  const groups = head === '' ? [] : head.split(':');
  // "::" stands for as many zeros as are missing.
  if (tail !== undefined) {
    const after = tail === '' ? [] : tail.split(':');
    while (groups.length + after.length < 8) groups.push('0');
    groups.push(...after);
  }
  return groups.slice(0, 4).join(':');
}
