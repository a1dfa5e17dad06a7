import { Metadata, Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from '@grpc/grpc-js';
import { InventoryCount } from '../../gen/aqm/coin/v1/coin';
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
      fetchDeviceCoins: refuse,
      listDevices: refuse,
      removeDevice: refuse,
      getInventoryCount: (call, callback) => {
        service.tokens.push(String(call.metadata.get('authorization')[0]));
        const available = InventoryCount.create({ gold: 1, silver: 2, bronze: 3 });
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
