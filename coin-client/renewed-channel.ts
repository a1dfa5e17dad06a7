import type { Socket } from 'node:net';
import { Channel, type ChannelCredentials, type ChannelInterface, type ChannelOptions, status } from '@grpc/grpc-js';

/**
 * A channel on which calls waited so long without a byte from the service is given up when one of them ends by its
 * deadline, in milliseconds. Shorter, and a slow network would never get through the handshake.
 */
const SILENCE_MS = 5_000;

const OPTIONS: ChannelOptions = {
  // Connections are shared with no other client of the process, which would otherwise wait for a dead one with this.
  'grpc.use_local_subchannel_pool': 1,
  // While calls wait, the connection is probed: a dead one ends them with UNAVAILABLE after 15 s, or after 5 s if it
  // was idle before.
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  // The service is found again within seconds of its return; the default is 2 minutes.
  'grpc.max_reconnect_backoff_ms': 5_000,
};

/**
 * A channel of grpc-js that gives up a dead connection. grpc-js itself waits without end for a listener that accepts a
 * connection and then says nothing, and for minutes for a network that drops packets. When a call ends by its deadline
 * after a long silence, later calls use a new connection; the others finish on the old one.
 */
export class RenewedChannel implements ChannelInterface {
  readonly #connect: () => Line;
  #line: Line;
  #isClosed = false;

  /** @param address `host:port`, or another target of gRPC's name resolution */
  constructor(address: string, credentials: ChannelCredentials) {
    // A proxy in the environment cannot reach the loopback address of this machine.
    const options = isLoopback(address) ? { ...OPTIONS, 'grpc.enable_http_proxy': 0 } : OPTIONS;
    this.#connect = () => new Line(address, credentials, options);
    this.#line = this.#connect();
  }

  createCall(...args: Parameters<ChannelInterface['createCall']>): ReturnType<ChannelInterface['createCall']> {
    const line = this.#line;
    const call = line.channel.createCall(...args);
    const start = call.start.bind(call);
    call.start = (metadata, listener) => {
      line.begin();
      start(metadata, {
        onReceiveMetadata: (received) => listener.onReceiveMetadata(received),
        onReceiveMessage: (message) => listener.onReceiveMessage(message),
        onReceiveStatus: (ended) => {
          line.end();
          if (ended.code === status.DEADLINE_EXCEEDED && line.isSilent()) this.#renew(line);
          listener.onReceiveStatus(ended);
        },
      });
    };
    return call;
  }

  #renew(silent: Line): void {
    if (this.#isClosed || silent !== this.#line) return;
    this.#line = this.#connect();
    silent.retire();
  }

  close(): void {
    this.#isClosed = true;
    this.#line.channel.close();
  }

  getTarget(): string {
    return this.#line.channel.getTarget();
  }

  getConnectivityState(tryToConnect: boolean): ReturnType<ChannelInterface['getConnectivityState']> {
    return this.#line.channel.getConnectivityState(tryToConnect);
  }

  watchConnectivityState(...args: Parameters<ChannelInterface['watchConnectivityState']>): void {
    this.#line.channel.watchConnectivityState(...args);
  }

  getChannelzRef(): ReturnType<ChannelInterface['getChannelzRef']> {
    return this.#line.channel.getChannelzRef();
  }
}

/** A channel of grpc-js with its calls in progress and its sockets. */
class Line {
  readonly channel: Channel;
  readonly #sockets = new Set<Socket>();
  #calls = 0;
  #bytesOfClosedSockets = 0;
  /** The number of bytes that had arrived when a call last began or ended. */
  #bytes = 0;
  /** Since when calls wait without a byte from the service; undefined if the last one got its answer. */
  #silentSince: number | undefined;
  #isRetired = false;

  constructor(address: string, credentials: ChannelCredentials, options: ChannelOptions) {
    const watched = withSockets(credentials, (socket) => this.#add(socket));
    this.channel = new Channel(address, watched, options);
  }

  begin(): void {
    const hasNews = this.#hasNews();
    if (hasNews || this.#silentSince === undefined) this.#silentSince = performance.now();
    this.#calls += 1;
  }

  end(): void {
    this.#calls -= 1;
    if (this.#hasNews()) this.#silentSince = this.#calls > 0 ? performance.now() : undefined;
    if (this.#isRetired) this.retire();
  }

  isSilent(): boolean {
    return this.#silentSince !== undefined && performance.now() - this.#silentSince >= SILENCE_MS;
  }

  /** Closes everything when the last call has ended. */
  retire(): void {
    this.#isRetired = true;
    if (this.#calls > 0) return;
    this.channel.close();
    // grpc-js would keep a socket open whose peer says nothing.
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Returns true if bytes have arrived since it was last called. */
  #hasNews(): boolean {
    const before = this.#bytes;
    this.#bytes = [...this.#sockets].reduce((sum, { bytesRead }) => sum + bytesRead, this.#bytesOfClosedSockets);
    return this.#bytes !== before;
  }

  #add(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      this.#bytesOfClosedSockets += socket.bytesRead;
    });
    if (this.#isRetired && this.#calls === 0) socket.destroy();
  }
}

/** Returns the same credentials, which report the socket of every connection before its handshake. */
function withSockets(credentials: ChannelCredentials, onSocket: (socket: Socket) => void): ChannelCredentials {
  const watched: ChannelCredentials = Object.create(credentials);
  watched._createSecureConnector = (...args) => {
    const connector = credentials._createSecureConnector(...args);
    return {
      connect: (socket) => {
        onSocket(socket);
        return connector.connect(socket);
      },
      waitForReady: () => connector.waitForReady(),
      getCallCredentials: () => connector.getCallCredentials(),
      destroy: () => connector.destroy(),
    };
  };
  return watched;
}

/** Returns true if the address names this machine, with or without the scheme of gRPC's name resolution. */
export function isLoopback(address: string): boolean {
  const host = address.replace(/^(dns|ipv4|ipv6):(\/\/[^/]*\/)?/i, '');
  return /^((.+\.)?localhost\.?|127(\.\d+){3}|\[?::(1|ffff:127(\.\d+){3})\]?)(:\d+)?$/i.test(host);
}
