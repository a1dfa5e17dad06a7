import {
  credentials,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { type Coin, InventoryCount, type ItemError } from '../../../gen/aqm/coin/v1/coin';
import { COIN_CATEGORIES } from '../../../gen/aqm/coin/v1/coin_categories';
import {
  type BatchFetchCoinsRequest,
  CoinServiceClient,
  type CoinServiceServer,
  CoinServiceService,
  type DeviceCoins,
  type DeviceCoinsRequest,
  type FetchCoinsRequest,
  type FetchDeviceCoinsRequest,
  type GetInventoryCountRequest,
  CoinUploadResult_Outcome as Outcome,
  type ReconcileCoinsRequest,
  type RemoveDeviceRequest,
  CoinStateResult_State as State,
  type UploadCoinsRequest,
} from '../../../gen/aqm/coin/v1/coin_service';
import { keyId, publicHalf } from '../../conformance/harness';
import { specOf } from '../../contract/coin-category';
import type { CoinServiceAccess } from '../../flows/service-call';
import type { CoinCategoryName, RetryPolicy } from '../../index';
import { type Failure, rich } from './rich-error';

export type { Failure } from './rich-error';

type Method = keyof CoinServiceServer;

/**
 * A coin service over real gRPC whose responses the test determines. It has one stock and one set of devices for all
 * target users and for the caller, repeats its response for a request_id, and fails before a call takes effect or after
 * it (the response is lost).
 */
export class ScriptedCoinService {
  epoch = '11111111-1111-4111-8111-111111111111';
  serverTime: Date | undefined;
  readonly stock: Coin[] = [];
  readonly spent = new Set<string>();
  /** The devices of every user; the empty id is the unnamed one. */
  devices: readonly string[] = [''];
  readonly removedDevices = new Set<string>();
  /** Every request as it arrived, in order. */
  readonly calls: { readonly method: Method; readonly request: unknown; readonly token: string }[] = [];
  /** The maximum stock of each category. */
  stockLimit = 1000;
  /** Errors for the items of a batch, by category. They take precedence over the stock. */
  itemErrors = new Map<CoinCategoryName, ItemError>();
  /** Errors for the items of FetchDeviceCoins, by target user. */
  deviceErrors = new Map<string, ItemError>();
  /** Functions that run after a call of the method has taken effect and before it is answered. */
  during: Partial<Record<Method, () => Promise<void> | void>> = {};
  readonly #failures: { readonly method: Method; readonly when: 'before' | 'after'; readonly failure: Failure }[] = [];
  readonly #remembered = new Map<string, Coin[]>();
  readonly #rememberedDevices = new Map<string, DeviceCoins[]>();
  readonly #server = new Server();
  #client: CoinServiceClient | undefined;

  static async start(): Promise<ScriptedCoinService> {
    const service = new ScriptedCoinService();
    const methods: CoinServiceServer = {
      uploadCoins: service.#handler('uploadCoins', (request: UploadCoinsRequest) => service.#upload(request)),
      fetchCoins: service.#handler('fetchCoins', (request: FetchCoinsRequest) => ({ coins: service.#fetch(request) })),
      batchFetchCoins: service.#handler('batchFetchCoins', ({ requests }: BatchFetchCoinsRequest) => ({
        results: requests.map((request) => {
          const name = [...service.itemErrors.keys()].find((key) => specOf(key).category === request.coinCategory);
          const error = name && service.itemErrors.get(name);
          return error ? { coins: [], error } : { coins: service.#fetch(request), error: undefined };
        }),
      })),
      fetchDeviceCoins: service.#handler('fetchDeviceCoins', ({ requests }: FetchDeviceCoinsRequest) => ({
        results: requests.map((request) => {
          const error = service.deviceErrors.get(request.targetUserId);
          return error ? { devices: [], error } : { devices: service.#fetchForDevices(request), error: undefined };
        }),
      })),
      listDevices: service.#handler('listDevices', () => ({
        devices: service.devices.map((deviceId) => ({
          deviceId,
          available: service.#count(deviceId),
          lastUploadTime: service.serverTime,
        })),
      })),
      removeDevice: service.#handler('removeDevice', ({ deviceId }: RemoveDeviceRequest) => ({
        retiredCount: service.remove(deviceId),
      })),
      getInventoryCount: service.#handler('getInventoryCount', ({ deviceId }: GetInventoryCountRequest) => ({
        available: service.#count(deviceId),
        databaseEpoch: service.epoch,
        serverTime: service.serverTime,
      })),
      reconcileCoins: service.#handler('reconcileCoins', (request: ReconcileCoinsRequest) => ({
        results: request.keyIds.map((id) => ({ keyId: id, state: service.#stateOf(id) })),
        retiredCount: 0,
        databaseEpoch: service.epoch,
      })),
    };
    service.#server.addService(CoinServiceService, methods);
    const port = await new Promise<number>((resolve, reject) => {
      service.#server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      );
    });
    service.#client = new CoinServiceClient(`127.0.0.1:${port}`, credentials.createInsecure());
    return service;
  }

  /** Gives access that never repeats a call. */
  get access(): CoinServiceAccess {
    if (this.#client === undefined) throw new Error('Not started.');
    return { client: this.#client, token: async () => 'a.b.c', retry: { attempts: 1 } };
  }

  /** Gives access that repeats failed calls. The waits take no time; their milliseconds are added to `waits`. */
  retrying(waits: number[] = [], retry: RetryPolicy = {}): CoinServiceAccess {
    const sleep = async (ms: number) => {
      waits.push(ms);
    };
    return { ...this.access, retry, sleep, random: () => 1 };
  }

  stop(): void {
    this.#client?.close();
    this.#server.forceShutdown();
  }

  /** Makes the next call of the method fail, before it takes effect or after. */
  failNext(method: Method, when: 'before' | 'after', failure: Failure = { code: status.UNAVAILABLE }): void {
    this.#failures.push({ method, when, failure });
  }

  /** Removes all failures that were requested. */
  recover(): void {
    this.#failures.length = 0;
  }

  /** Adds coins of a device to the stock, numbered from `from`. */
  add(from: number, count: number, coinCategory: CoinCategoryName, expireTime: Date, deviceId = ''): void {
    for (let n = from; n < from + count; n += 1) {
      const { publicKey, signature } = publicHalf(n, coinCategory);
      this.stock.push({
        keyId: keyId(n),
        coinCategory: specOf(coinCategory).category,
        publicKey: Buffer.from(publicKey),
        signature: Buffer.from(signature),
        expireTime,
        deviceId,
      });
    }
  }

  /** Removes a device and retires its coins. Returns their number. */
  remove(deviceId: string): number {
    this.removedDevices.add(deviceId);
    this.devices = this.devices.filter((id) => id !== deviceId);
    const coins = this.stock.filter((coin) => coin.deviceId === deviceId);
    for (const coin of coins) this.#spend(coin);
    return coins.length;
  }

  /** Returns the requests of a method, in the order of arrival. */
  requests<T>(method: Method): T[] {
    return this.calls.filter((call) => call.method === method).map(({ request }) => request as T);
  }

  #handler<Request, Response>(method: Method, work: (request: Request) => Response) {
    return (call: ServerUnaryCall<Request, Response>, callback: sendUnaryData<Response>): void => {
      this.calls.push({ method, request: call.request, token: String(call.metadata.get('authorization')[0]) });
      this.#answer(method, () => work(call.request)).then(
        (response) => callback(null, response),
        (failure: Failure) => callback(rich(failure)),
      );
    };
  }

  async #answer<Response>(method: Method, work: () => Response): Promise<Response> {
    const index = this.#failures.findIndex((next) => next.method === method);
    const [next] = index === -1 ? [] : this.#failures.splice(index, 1);
    if (next?.when === 'before') throw next.failure;
    const response = work();
    await this.during[method]?.();
    if (next?.when === 'after') throw next.failure;
    return response;
  }

  #upload(request: UploadCoinsRequest) {
    if (request.databaseEpoch !== '' && request.databaseEpoch !== this.epoch) {
      throw { code: status.FAILED_PRECONDITION, reason: 'EPOCH_CHANGED' } satisfies Failure;
    }
    const { deviceId } = request;
    if (this.removedDevices.has(deviceId)) {
      throw { code: status.FAILED_PRECONDITION, reason: 'DEVICE_REMOVED' } satisfies Failure;
    }
    const results = request.coins.map((coin) => ({
      keyId: coin.keyId,
      outcome: this.#take({ ...coin, deviceId }),
    }));
    const insertedCount = results.filter(({ outcome }) => outcome === Outcome.OUTCOME_INSERTED).length;
    return { results, insertedCount, available: this.#count(deviceId), databaseEpoch: this.epoch };
  }

  #take(coin: Coin): Outcome {
    if (this.spent.has(coin.keyId)) return Outcome.OUTCOME_SPENT;
    const there = this.stock.find(({ keyId }) => keyId === coin.keyId);
    if (there) {
      return there.publicKey.equals(coin.publicKey) ? Outcome.OUTCOME_ALREADY_PRESENT : Outcome.OUTCOME_CONFLICT;
    }
    const ofCategory = this.stock.filter((other) => isOf(other, coin));
    if (ofCategory.length >= this.stockLimit) return Outcome.OUTCOME_OVER_STOCK_LIMIT;
    this.stock.push(coin);
    return Outcome.OUTCOME_INSERTED;
  }

  #stateOf(id: string): State {
    if (this.spent.has(id)) return State.STATE_SPENT;
    return this.stock.some(({ keyId }) => keyId === id) ? State.STATE_IN_STOCK : State.STATE_UNKNOWN;
  }

  #fetch({ requestId, targetUserId, coinCategory, count, deviceId }: FetchCoinsRequest): Coin[] {
    const id = `${targetUserId} ${requestId}`;
    const remembered = this.#remembered.get(id);
    if (remembered) return remembered;
    const coins = this.#handOut({ coinCategory, deviceId }, count);
    if (coins.length > 0) this.#remembered.set(id, coins);
    return coins;
  }

  #fetchForDevices({ requestId, targetUserId, count, deviceIds, ...request }: DeviceCoinsRequest): DeviceCoins[] {
    const id = `${targetUserId} ${requestId}`;
    const remembered = this.#rememberedDevices.get(id);
    if (remembered) return remembered;
    const { coinCategory, allowLowerCategories } = request;
    const categories = allowLowerCategories
      ? COIN_CATEGORIES.map(({ category }) => category).filter((category) => category >= coinCategory)
      : [coinCategory];
    const devices = [...this.devices]
      .sort()
      .filter((deviceId) => deviceIds.length === 0 || deviceIds.includes(deviceId))
      .map((deviceId) => {
        const coins: Coin[] = [];
        for (const category of categories) {
          coins.push(...this.#handOut({ coinCategory: category, deviceId }, count - coins.length));
        }
        return { deviceId, coins };
      });
    const hasCoins = devices.some(({ coins }) => coins.length > 0);
    if (requestId !== '' && hasCoins) this.#rememberedDevices.set(id, devices);
    return devices;
  }

  #handOut(wanted: Pick<Coin, 'coinCategory' | 'deviceId'>, count: number): Coin[] {
    const coins = this.stock.filter((coin) => isOf(coin, wanted)).slice(0, count);
    for (const coin of coins) this.#spend(coin);
    return coins;
  }

  #spend(coin: Coin): void {
    this.stock.splice(this.stock.indexOf(coin), 1);
    this.spent.add(coin.keyId);
  }

  #count(deviceId: string): InventoryCount {
    const count = InventoryCount.create();
    for (const { category, countField } of COIN_CATEGORIES) {
      count[countField] = this.stock.filter((coin) => isOf(coin, { coinCategory: category, deviceId })).length;
    }
    return count;
  }
}

/** Returns true if the coin is one of that category and device. */
function isOf(coin: Coin, { coinCategory, deviceId }: Pick<Coin, 'coinCategory' | 'deviceId'>): boolean {
  return coin.coinCategory === coinCategory && coin.deviceId === deviceId;
}
