import {
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { Any, ErrorInfo, RetryInfo } from 'nice-grpc-error-details';
import { Status } from 'nice-grpc-error-details/lib/proto/google/rpc/status';
import { type Coin, InventoryCount, type ItemError } from '../../../gen/aqm/coin/v1/coin';
import { COIN_CATEGORIES } from '../../../gen/aqm/coin/v1/coin_categories';
import {
  type BatchFetchCoinsRequest,
  CoinServiceClient,
  type CoinServiceServer,
  CoinServiceService,
  type FetchCoinsRequest,
  CoinUploadResult_Outcome as Outcome,
  type ReconcileCoinsRequest,
  CoinStateResult_State as State,
  type UploadCoinsRequest,
} from '../../../gen/aqm/coin/v1/coin_service';
import { keyId, publicHalf } from '../../conformance/harness';
import { specOf } from '../../contract/coin-category';
import type { CoinServiceAccess } from '../../flows/service-call';
import type { CoinCategoryName, RetryPolicy } from '../../index';

/** An error that the scripted service answers. */
export interface Failure {
  readonly code: status;
  readonly reason?: string;
  /** The delay of the RetryInfo, in milliseconds. */
  readonly retryAfterMs?: number;
}

type Method = 'uploadCoins' | 'fetchCoins' | 'batchFetchCoins' | 'getInventoryCount' | 'reconcileCoins';

/**
 * A coin service over real gRPC whose responses the test determines. It has one stock for all target users, repeats its
 * response for a request_id, and fails before a call takes effect or after it (the response is lost).
 */
export class ScriptedCoinService {
  epoch = '11111111-1111-4111-8111-111111111111';
  serverTime: Date | undefined;
  readonly stock: Coin[] = [];
  readonly spent = new Set<string>();
  /** Every request as it arrived, in order. */
  readonly calls: { readonly method: Method; readonly request: unknown; readonly token: string }[] = [];
  /** The maximum stock of each category. */
  stockLimit = 1000;
  /** Errors for the items of a batch, by category. They take precedence over the stock. */
  itemErrors = new Map<CoinCategoryName, ItemError>();
  /** Functions that run after a call of the method has taken effect and before it is answered. */
  during: Partial<Record<Method, () => Promise<void> | void>> = {};
  readonly #failures: { readonly method: Method; readonly when: 'before' | 'after'; readonly failure: Failure }[] = [];
  readonly #remembered = new Map<string, Coin[]>();
  readonly #server = new Server();
  #client: CoinServiceClient | undefined;

  static async start(): Promise<ScriptedCoinService> {
    const service = new ScriptedCoinService();
    const methods: Omit<CoinServiceServer, 'fetchDeviceCoins' | 'listDevices' | 'removeDevice'> = {
      uploadCoins: service.#handler('uploadCoins', (request: UploadCoinsRequest) => service.#upload(request)),
      fetchCoins: service.#handler('fetchCoins', (request: FetchCoinsRequest) => ({ coins: service.#fetch(request) })),
      batchFetchCoins: service.#handler('batchFetchCoins', ({ requests }: BatchFetchCoinsRequest) => ({
        results: requests.map((request) => {
          const name = [...service.itemErrors.keys()].find((key) => specOf(key).category === request.coinCategory);
          const error = name && service.itemErrors.get(name);
          return error ? { coins: [], error } : { coins: service.#fetch(request), error: undefined };
        }),
      })),
      getInventoryCount: service.#handler('getInventoryCount', () => ({
        available: service.#count(),
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

  /** Adds coins to the stock, numbered from `from`. */
  add(from: number, count: number, coinCategory: CoinCategoryName, expireTime: Date): void {
    for (let n = from; n < from + count; n += 1) {
      const { publicKey, signature } = publicHalf(n, coinCategory);
      this.stock.push({
        keyId: keyId(n),
        coinCategory: specOf(coinCategory).category,
        publicKey: Buffer.from(publicKey),
        signature: Buffer.from(signature),
        expireTime,
        deviceId: '',
      });
    }
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
    const results = request.coins.map((coin) => ({ keyId: coin.keyId, outcome: this.#take(coin) }));
    const insertedCount = results.filter(({ outcome }) => outcome === Outcome.OUTCOME_INSERTED).length;
    return { results, insertedCount, available: this.#count(), databaseEpoch: this.epoch };
  }

  #take(coin: Coin): Outcome {
    if (this.spent.has(coin.keyId)) return Outcome.OUTCOME_SPENT;
    const there = this.stock.find(({ keyId }) => keyId === coin.keyId);
    if (there) {
      return there.publicKey.equals(coin.publicKey) ? Outcome.OUTCOME_ALREADY_PRESENT : Outcome.OUTCOME_CONFLICT;
    }
    const ofCategory = this.stock.filter(({ coinCategory }) => coinCategory === coin.coinCategory);
    if (ofCategory.length >= this.stockLimit) return Outcome.OUTCOME_OVER_STOCK_LIMIT;
    this.stock.push(coin);
    return Outcome.OUTCOME_INSERTED;
  }

  #stateOf(id: string): State {
    if (this.spent.has(id)) return State.STATE_SPENT;
    return this.stock.some(({ keyId }) => keyId === id) ? State.STATE_IN_STOCK : State.STATE_UNKNOWN;
  }

  #fetch({ requestId, targetUserId, coinCategory, count }: FetchCoinsRequest): Coin[] {
    const id = `${targetUserId} ${requestId}`;
    const remembered = this.#remembered.get(id);
    if (remembered) return remembered;
    const coins = this.stock.filter((coin) => coin.coinCategory === coinCategory).slice(0, count);
    for (const coin of coins) {
      this.stock.splice(this.stock.indexOf(coin), 1);
      this.spent.add(coin.keyId);
    }
    if (coins.length > 0) this.#remembered.set(id, coins);
    return coins;
  }

  #count(): InventoryCount {
    const count = InventoryCount.create();
    for (const { category, countField } of COIN_CATEGORIES) {
      count[countField] = this.stock.filter((coin) => coin.coinCategory === category).length;
    }
    return count;
  }
}

/** Returns a gRPC error with the details of google.rpc.Status. */
function rich({ code, reason, retryAfterMs }: Failure) {
  const metadata = new Metadata();
  const any = (type: string, value: Uint8Array) =>
    Any.fromPartial({ typeUrl: `type.googleapis.com/google.rpc.${type}`, value });
  if (reason !== undefined) {
    const details = [
      any('ErrorInfo', ErrorInfo.encode(ErrorInfo.fromPartial({ domain: 'coin.aqm', reason })).finish()),
    ];
    if (retryAfterMs !== undefined) {
      const retryDelay = { seconds: Math.floor(retryAfterMs / 1000), nanos: (retryAfterMs % 1000) * 1e6 };
      details.push(any('RetryInfo', RetryInfo.encode(RetryInfo.fromPartial({ retryDelay })).finish()));
    }
    const encoded = Status.encode(Status.fromPartial({ code, message: reason, details })).finish();
    metadata.set('grpc-status-details-bin', Buffer.from(encoded));
  }
  return { code, details: reason ?? status[code], metadata };
}
