import { type CallOptions, type ChannelCredentials, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import {
  CoinAdminServiceClient,
  HardDeleteFetchedRequest,
  type HardDeleteFetchedResponse,
  PurgeStaleRequest,
  type PurgeStaleResponse,
} from '../gen/aqm/coin/v1/coin_admin_service';
import {
  BatchFetchCoinsRequest,
  type BatchFetchCoinsResponse,
  CoinServiceClient,
  FetchCoinsRequest,
  type FetchCoinsResponse,
  type GetInventoryCountResponse,
  ReconcileCoinsRequest,
  type ReconcileCoinsResponse,
  UploadCoinsRequest,
  type UploadCoinsResponse,
} from '../gen/aqm/coin/v1/coin_service';
import { CoinServiceError } from './coin-service-error';

export interface CoinServiceSettings {
  /** Returns the token, without the word Bearer. Called before every call, so that it can renew the token. */
  readonly token: () => string | Promise<string>;
  /** The transport credentials. Default: plain text, which the service accepts on loopback or behind a proxy. */
  readonly credentials?: ChannelCredentials;
  /** The deadline of a call in milliseconds. Default 10000. */
  readonly timeoutMs?: number;
}

export interface CallSettings {
  /** The deadline of this call in milliseconds. Default: that of the connection. */
  readonly timeoutMs?: number;
}

/** The fields of a message, all optional. A missing field has the default of its type. */
type Fields<M> = M extends { create(base?: infer F): unknown } ? NonNullable<F> : never;

/**
 * The methods of the coin service, which docs/api.md describes. Each rejects with CoinServiceError if the call fails. No
 * call is repeated automatically; a fetch may be repeated with the same `requestId`.
 */
export interface CoinServiceCalls {
  uploadCoins(request: Fields<typeof UploadCoinsRequest>, settings?: CallSettings): Promise<UploadCoinsResponse>;
  fetchCoins(request: Fields<typeof FetchCoinsRequest>, settings?: CallSettings): Promise<FetchCoinsResponse>;
  batchFetchCoins(
    request: Fields<typeof BatchFetchCoinsRequest>,
    settings?: CallSettings,
  ): Promise<BatchFetchCoinsResponse>;
  getInventoryCount(settings?: CallSettings): Promise<GetInventoryCountResponse>;
  reconcileCoins(
    request: Fields<typeof ReconcileCoinsRequest>,
    settings?: CallSettings,
  ): Promise<ReconcileCoinsResponse>;
  /** Needs a token with the scope `admin`. */
  purgeStale(request: Fields<typeof PurgeStaleRequest>, settings?: CallSettings): Promise<PurgeStaleResponse>;
  /** Needs a token with the scope `admin`. */
  hardDeleteFetched(
    request: Fields<typeof HardDeleteFetchedRequest>,
    settings?: CallSettings,
  ): Promise<HardDeleteFetchedResponse>;
  /** The generated client, for the flows of `aqm-database/device`. `close` closes it. */
  readonly client: CoinServiceClient;
  close(): void;
}

type Unary<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => unknown;

/**
 * Creates a client. The connection is opened by the first call, which fails if the service cannot be reached.
 * @param address `host:port`
 */
export function connectCoinService(
  address: string,
  { token, credentials: channel = credentials.createInsecure(), timeoutMs = 10_000 }: CoinServiceSettings,
): CoinServiceCalls {
  const client = new CoinServiceClient(address, channel);
  const admin = new CoinAdminServiceClient(address, channel);

  async function call<Request, Response>(
    method: Unary<Request, Response>,
    request: Request,
    settings: CallSettings = {},
  ): Promise<Response> {
    const metadata = new Metadata();
    metadata.set('authorization', `Bearer ${await token()}`);
    const deadline = Date.now() + (settings.timeoutMs ?? timeoutMs);
    return new Promise((resolve, reject) => {
      method(request, metadata, { deadline }, (error, response) => {
        if (error) reject(new CoinServiceError(error));
        else resolve(response);
      });
    });
  }

  return {
    uploadCoins: (request, settings) =>
      call(client.uploadCoins.bind(client), UploadCoinsRequest.create(request), settings),
    fetchCoins: (request, settings) =>
      call(client.fetchCoins.bind(client), FetchCoinsRequest.create(request), settings),
    batchFetchCoins: (request, settings) =>
      call(client.batchFetchCoins.bind(client), BatchFetchCoinsRequest.create(request), settings),
    getInventoryCount: (settings) => call(client.getInventoryCount.bind(client), {}, settings),
    reconcileCoins: (request, settings) =>
      call(client.reconcileCoins.bind(client), ReconcileCoinsRequest.create(request), settings),
    purgeStale: (request, settings) => call(admin.purgeStale.bind(admin), PurgeStaleRequest.create(request), settings),
    hardDeleteFetched: (request, settings) =>
      call(admin.hardDeleteFetched.bind(admin), HardDeleteFetchedRequest.create(request), settings),
    client,
    close() {
      client.close();
      admin.close();
    },
  };
}
