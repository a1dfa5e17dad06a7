import { type ChannelCredentials, type Client, credentials, status } from '@grpc/grpc-js';
import {
  CoinAdminServiceClient,
  DeleteUserRequest,
  type DeleteUserResponse,
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
  FetchDeviceCoinsRequest,
  type FetchDeviceCoinsResponse,
  type GetInventoryCountResponse,
  type ListDevicesResponse,
  ReconcileCoinsRequest,
  type ReconcileCoinsResponse,
  RemoveDeviceRequest,
  type RemoveDeviceResponse,
  UploadCoinsRequest,
  type UploadCoinsResponse,
} from '../gen/aqm/coin/v1/coin_service';
import { CoinServiceError } from './coin-service-error';
import { RenewedChannel } from './renewed-channel';
import { authorization, type UnaryMethod, unaryCall } from './unary-call';

export interface CoinServiceSettings {
  /**
   * Returns the token, without the word Bearer, spaces and line ends. Called before every call, so that it can renew
   * the token.
   */
  readonly token: () => string | Promise<string>;
  /** The transport credentials. Default: plain text, which the service accepts on loopback or behind a proxy. */
  readonly credentials?: ChannelCredentials;
  /** The deadline of a call in milliseconds, more than 0. More than 24 days count as 24 days. Default 10000. */
  readonly timeoutMs?: number;
}

export interface CallSettings {
  /** The deadline of this call in milliseconds, more than 0. Default: that of the connection. */
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
  fetchDeviceCoins(
    request: Fields<typeof FetchDeviceCoinsRequest>,
    settings?: CallSettings,
  ): Promise<FetchDeviceCoinsResponse>;
  getInventoryCount(settings?: CallSettings): Promise<GetInventoryCountResponse>;
  reconcileCoins(
    request: Fields<typeof ReconcileCoinsRequest>,
    settings?: CallSettings,
  ): Promise<ReconcileCoinsResponse>;
  listDevices(settings?: CallSettings): Promise<ListDevicesResponse>;
  removeDevice(request: Fields<typeof RemoveDeviceRequest>, settings?: CallSettings): Promise<RemoveDeviceResponse>;
  /** Needs a token with the scope `admin`. */
  purgeStale(request: Fields<typeof PurgeStaleRequest>, settings?: CallSettings): Promise<PurgeStaleResponse>;
  /** Needs a token with the scope `admin`. */
  hardDeleteFetched(
    request: Fields<typeof HardDeleteFetchedRequest>,
    settings?: CallSettings,
  ): Promise<HardDeleteFetchedResponse>;
  /** Needs a token with the scope `admin`. Takes two seconds or more. */
  deleteUser(request: Fields<typeof DeleteUserRequest>, settings?: CallSettings): Promise<DeleteUserResponse>;
  /** The generated client, for the flows of `aqm-database/device`. `close` closes it. */
  readonly client: CoinServiceClient;
  close(): void;
}

/**
 * Creates a client. The connection is opened by the first call, which fails if the service cannot be reached. It is a
 * connection of its own, and a dead one is replaced: within 15 s while calls wait, and when a call ends by its deadline
 * after 5 s without a byte from the service. After an outage it is tried again at least every 6 s.
 * @param address `host:port`
 * @throws {CoinServiceError} `INVALID_FIELD` if a setting is not allowed
 */
export function connectCoinService(
  address: string,
  { token, credentials: channel = credentials.createInsecure(), timeoutMs = 10_000 }: CoinServiceSettings,
): CoinServiceCalls {
  if (typeof address !== 'string' || address === '') throw invalidSetting('address', 'must be text: host:port');
  if (typeof token !== 'function') throw invalidSetting('token', 'must be a function that returns the token');
  checkTimeout(timeoutMs);
  const options = { channelOverride: new RenewedChannel(address, channel) };
  const client = new CoinServiceClient(address, channel, options);
  const admin = new CoinAdminServiceClient(address, channel, options);

  async function call<Request, Response>(
    of: Client,
    method: UnaryMethod<Request, Response>,
    request: Request,
    settings: CallSettings = {},
  ): Promise<Response> {
    const limitMs = settings.timeoutMs ?? timeoutMs;
    checkTimeout(limitMs);
    return unaryCall(of, method, request, await authorization(token), limitMs);
  }

  return {
    uploadCoins: (request, settings) => call(client, client.uploadCoins, UploadCoinsRequest.create(request), settings),
    fetchCoins: (request, settings) => call(client, client.fetchCoins, FetchCoinsRequest.create(request), settings),
    batchFetchCoins: (request, settings) =>
      call(client, client.batchFetchCoins, BatchFetchCoinsRequest.create(request), settings),
    fetchDeviceCoins: (request, settings) =>
      call(client, client.fetchDeviceCoins, FetchDeviceCoinsRequest.create(request), settings),
    getInventoryCount: (settings) => call(client, client.getInventoryCount, { deviceId: '' }, settings),
    reconcileCoins: (request, settings) =>
      call(client, client.reconcileCoins, ReconcileCoinsRequest.create(request), settings),
    listDevices: (settings) => call(client, client.listDevices, {}, settings),
    removeDevice: (request, settings) =>
      call(client, client.removeDevice, RemoveDeviceRequest.create(request), settings),
    purgeStale: (request, settings) => call(admin, admin.purgeStale, PurgeStaleRequest.create(request), settings),
    hardDeleteFetched: (request, settings) =>
      call(admin, admin.hardDeleteFetched, HardDeleteFetchedRequest.create(request), settings),
    deleteUser: (request, settings) => call(admin, admin.deleteUser, DeleteUserRequest.create(request), settings),
    client,
    // Both clients use one channel.
    close: () => client.close(),
  };
}

function checkTimeout(timeoutMs: number): void {
  if (!(timeoutMs > 0)) throw invalidSetting('timeoutMs', 'must be a positive number of milliseconds');
}

function invalidSetting(field: string, description: string): CoinServiceError {
  const fields = { code: status.INVALID_ARGUMENT, reason: 'INVALID_FIELD', fieldViolations: [{ field, description }] };
  return new CoinServiceError(`${field} ${description}.`, fields);
}
