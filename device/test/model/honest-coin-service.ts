import { randomUUID } from 'node:crypto';
import {
  credentials,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { type Coin, InventoryCount } from '../../../gen/aqm/coin/v1/coin';
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
import { DAY, HOUR, MINUTE } from '../../conformance/harness';
import type { CoinServiceAccess } from '../../index';

/** The service remembers the answer of a request for as long. */
const FETCH_GRACE = HOUR;
const COIN_LIFETIME = 23 * DAY;
/** A coin is not handed out any more in the last 24 hours before it expires. */
const LAST_HANDOUT = DAY;

interface StoredCoin {
  readonly coin: Coin;
  readonly expiresMs: number;
  readonly uploadedMs: number;
  isSpent: boolean;
}

/**
 * A coin service in memory, over real gRPC, that keeps the promises of the real one for some users: each coin is handed
 * out once, oldest first, until 24 hours before it expires; a repeated request gets the same coins; what was handed out
 * or retired is spent for ever. It has a clock of its own, and may lose answers.
 */
export class HonestCoinService {
  /** The right time, in milliseconds since 1970. */
  nowMs: () => number = Date.now;
  /** The number of calls that fail next: before they are carried out, or after, when only their answer is lost. */
  failing: { calls: number; readonly when: 'before' | 'after' } = { calls: 0, when: 'before' };
  /** The number of calls that arrived. */
  calls = 0;
  /** The ids of the coins that could have been fetched, but were retired, in order. */
  readonly retired: string[] = [];
  readonly #epoch = randomUUID();
  readonly #stocks = new Map<string, Map<string, StoredCoin>>();
  readonly #answers = new Map<string, { readonly coins: Coin[]; readonly atMs: number }>();
  readonly #server = new Server();
  #client: CoinServiceClient | undefined;

  static async start(): Promise<HonestCoinService> {
    const service = new HonestCoinService();
    const methods: Omit<CoinServiceServer, 'fetchDeviceCoins' | 'listDevices' | 'removeDevice'> = {
      uploadCoins: service.#method((request: UploadCoinsRequest, caller) => service.#upload(request, caller)),
      fetchCoins: service.#method((request: FetchCoinsRequest, caller) => ({ coins: service.#fetch(request, caller) })),
      batchFetchCoins: service.#method(({ requests }: BatchFetchCoinsRequest, caller) => ({
        results: requests.map((request) => ({ coins: service.#fetch(request, caller), error: undefined })),
      })),
      getInventoryCount: service.#method((_: object, caller) => ({
        available: service.#count(caller),
        databaseEpoch: service.#epoch,
        serverTime: new Date(service.nowMs()),
      })),
      reconcileCoins: service.#method((request: ReconcileCoinsRequest, caller) => service.#reconcile(request, caller)),
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

  stop(): void {
    this.#client?.close();
    this.#server.forceShutdown();
  }

  /** Gives access with the token of a user. A failed call is repeated once, without a wait. */
  access(sub: string): CoinServiceAccess {
    if (this.#client === undefined) throw new Error('Not started.');
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const token = `${part({ alg: 'EdDSA' })}.${part({ sub })}.c2ln`;
    return { client: this.#client, token: () => token, retry: { attempts: 2 }, sleep: async () => undefined };
  }

  /** Puts a coin into a user's stock. */
  add(userId: string, coin: Coin): Outcome {
    const nowMs = this.nowMs();
    const expiresMs = coin.expireTime?.getTime() ?? nowMs + COIN_LIFETIME;
    if (expiresMs > nowMs + COIN_LIFETIME + 5 * MINUTE) throw status.INVALID_ARGUMENT;
    const there = this.#stock(userId).get(coin.keyId);
    if (there?.isSpent) return Outcome.OUTCOME_SPENT;
    if (there) {
      return there.coin.publicKey.equals(coin.publicKey) ? Outcome.OUTCOME_ALREADY_PRESENT : Outcome.OUTCOME_CONFLICT;
    }
    if (expiresMs <= nowMs + LAST_HANDOUT) return Outcome.OUTCOME_EXPIRED;
    const stored = { coin: { ...coin, expireTime: new Date(expiresMs) }, expiresMs, uploadedMs: nowMs, isSpent: false };
    this.#stock(userId).set(coin.keyId, stored);
    return Outcome.OUTCOME_INSERTED;
  }

  /** Returns the coins of a user that could be fetched now, the oldest first. */
  available(userId: string): Coin[] {
    const isAvailable = ({ isSpent, expiresMs }: StoredCoin) => !isSpent && expiresMs > this.nowMs() + LAST_HANDOUT;
    return [...this.#stock(userId).values()].filter(isAvailable).map(({ coin }) => coin);
  }

  /** Returns a coin of a user that was handed out or retired. */
  spentCoin(userId: string, keyId: string): Coin | undefined {
    const stored = this.#stock(userId).get(keyId);
    return stored?.isSpent ? stored.coin : undefined;
  }

  /** Hands out a coin of a user, as it does to a requester. Returns it. */
  handOut(userId: string, coin: Coin): Coin {
    const stored = this.#stock(userId).get(coin.keyId);
    if (stored === undefined || stored.isSpent) throw new Error('No coin is handed out twice.');
    stored.isSpent = true;
    return coin;
  }

  #stock(userId: string): Map<string, StoredCoin> {
    const stock = this.#stocks.get(userId) ?? new Map();
    this.#stocks.set(userId, stock);
    return stock;
  }

  #method<Request, Response>(work: (request: Request, caller: string) => Response) {
    return (call: ServerUnaryCall<Request, Response>, callback: sendUnaryData<Response>): void => {
      this.calls += 1;
      const isFailing = this.failing.calls > 0;
      if (isFailing) this.failing.calls -= 1;
      try {
        if (isFailing && this.failing.when === 'before') throw status.UNAVAILABLE;
        const [, payload = ''] = String(call.metadata.get('authorization')[0]).split('.');
        const { sub } = JSON.parse(Buffer.from(payload, 'base64url').toString());
        const response = work(call.request, sub);
        if (isFailing) throw status.UNAVAILABLE;
        callback(null, response);
      } catch (code) {
        if (typeof code !== 'number') throw code;
        callback({ code, details: status[code] });
      }
    };
  }

  #upload({ coins, databaseEpoch }: UploadCoinsRequest, caller: string) {
    if (databaseEpoch !== this.#epoch) throw status.FAILED_PRECONDITION;
    const results = coins.map((coin) => ({ keyId: coin.keyId, outcome: this.add(caller, coin) }));
    const insertedCount = results.filter(({ outcome }) => outcome === Outcome.OUTCOME_INSERTED).length;
    return { results, insertedCount, available: this.#count(caller), databaseEpoch };
  }

  #fetch({ requestId, targetUserId, coinCategory, count }: FetchCoinsRequest, caller: string): Coin[] {
    const name = `${caller} ${targetUserId} ${requestId}`;
    const before = this.#answers.get(name);
    if (before !== undefined && this.nowMs() - before.atMs <= FETCH_GRACE) return before.coins;
    const ofCategory = this.available(targetUserId).filter((coin) => coin.coinCategory === coinCategory);
    const coins = ofCategory.slice(0, count).map((coin) => this.handOut(targetUserId, coin));
    if (coins.length > 0) this.#answers.set(name, { coins, atMs: this.nowMs() });
    return coins;
  }

  #reconcile({ coinCategory, keyIds, complete, listedAt, databaseEpoch }: ReconcileCoinsRequest, caller: string) {
    if (databaseEpoch !== this.#epoch) throw status.FAILED_PRECONDITION;
    const listedMs = listedAt?.getTime() ?? Number.NaN;
    if (!(listedMs <= this.nowMs())) throw status.INVALID_ARGUMENT;
    const results = keyIds.map((keyId) => ({ keyId, state: this.#stateOf(caller, keyId) }));
    const unlisted = [...this.#stock(caller).values()].filter(
      ({ coin, isSpent, uploadedMs }) =>
        complete &&
        !isSpent &&
        coin.coinCategory === coinCategory &&
        uploadedMs < listedMs &&
        !keyIds.includes(coin.keyId),
    );
    for (const stored of unlisted) {
      if (this.available(caller).includes(stored.coin)) this.retired.push(stored.coin.keyId);
      stored.isSpent = true;
    }
    return { results, retiredCount: unlisted.length, databaseEpoch };
  }

  #stateOf(userId: string, keyId: string): State {
    const stored = this.#stock(userId).get(keyId);
    if (stored === undefined) return State.STATE_UNKNOWN;
    if (stored.isSpent) return State.STATE_SPENT;
    return stored.expiresMs > this.nowMs() + LAST_HANDOUT ? State.STATE_IN_STOCK : State.STATE_EXPIRED;
  }

  #count(userId: string): InventoryCount {
    const count = InventoryCount.create();
    for (const { category, countField } of COIN_CATEGORIES) {
      count[countField] = this.available(userId).filter((coin) => coin.coinCategory === category).length;
    }
    return count;
  }
}
