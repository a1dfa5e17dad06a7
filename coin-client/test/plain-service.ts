import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { Metadata, Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from '@grpc/grpc-js';
import {
  type CoinServiceServer,
  CoinServiceService,
  type GetInventoryCountRequest,
  type GetInventoryCountResponse,
} from '../index';

type Count = (call: ServerUnaryCall<GetInventoryCountRequest, GetInventoryCountResponse>) => Promise<void> | void;

/** A gRPC server that answers GetInventoryCount. The test decides when, and with which error. */
export class PlainService {
  /** The tokens of the calls, in their order of arrival. */
  readonly tokens: string[] = [];
  /** Runs before each answer. A ServiceError that it throws is the answer. */
  before: Count = () => undefined;
  readonly #server = new Server();
  #address = '';

  static async start(): Promise<PlainService> {
    const service = new PlainService();
    const refuse = (_: unknown, callback: sendUnaryData<never>) => callback({ code: 12 });
    const methods: CoinServiceServer = {
      uploadCoins: refuse,
      fetchCoins: refuse,
      batchFetchCoins: refuse,
      reconcileCoins: refuse,
      getInventoryCount: (call, callback) => {
        service.tokens.push(String(call.metadata.get('authorization')[0]));
        const available = { gold: 1, silver: 2, bronze: 3 };
        Promise.resolve(call)
          .then((called) => service.before(called))
          .then(
            () => callback(null, { available, databaseEpoch: '', serverTime: undefined }),
            (error) => callback(error),
          );
      },
    };
    service.#server.addService(CoinServiceService, methods);
    const port = await new Promise<number>((resolve, reject) => {
      service.#server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      );
    });
    service.#address = `127.0.0.1:${port}`;
    return service;
  }

  get address(): string {
    return this.#address;
  }

  stop(): void {
    this.#server.forceShutdown();
  }
}

/** Returns metadata with these bytes in the place of a google.rpc.Status. */
export function withDetails(bytes: Uint8Array): Metadata {
  const metadata = new Metadata();
  metadata.set('grpc-status-details-bin', Buffer.from(bytes));
  return metadata;
}

/**
 * A network between a client and a service. It accepts every connection, and passes bytes on unless it is told to drop
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
    upstream.on('error', () => undefined);
    socket.on('data', (bytes) => {
      if (!this.#dropped.has(socket)) upstream.write(bytes);
    });
    upstream.on('data', (bytes) => {
      if (!this.#dropped.has(socket)) socket.write(bytes);
    });
    socket.on('end', () => upstream.destroy());
  }
}
