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
import { DAY, HOUR, MINUTE } from '../../conformance/harness';
import type { CoinServiceAccess } from '../../index';

/** The service remembers the answer of a request for as long. */
const FETCH_GRACE = HOUR;
const COIN_LIFETIME = 23 * DAY;
/** A coin is not handed out any more in the last 24 hours before it expires. */
const LAST_HANDOUT = DAY;

/** The devices of a user; the empty id is the unnamed one. */
interface Devices {
  readonly known: Set<string>;
  readonly removed: Set<string>;
}

interface StoredCoin {
  readonly coin: Coin;
  readonly expiresMs: number;
  readonly uploadedMs: number;
  isSpent: boolean;
}

/**
 * A coin service in memory, over real gRPC, that keeps the promises of the real one for some users and their devices: each
 * coin is handed out once, oldest first, until 24 hours before it expires; a repeated request gets the same coins; what was
 * handed out or retired is spent for ever, and so is what a removed device uploaded. It has a clock of its own, and may
 * lose answers.
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
  readonly #devices = new Map<string, Devices>();
  readonly #answers = new Map<string, { readonly devices: DeviceCoins[]; readonly atMs: number }>();
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
      fetchDeviceCoins: service.#method(({ requests }: FetchDeviceCoinsRequest, caller) => ({
        results: requests.map((request) => ({ devices: service.#fetchForDevices(request, caller), error: undefined })),
      })),
      listDevices: service.#method((_: object, caller) => ({
        devices: service
          .devicesOf(caller)
          .map((deviceId) => ({ deviceId, available: service.#count(caller, deviceId), lastUploadTime: undefined })),
      })),
      removeDevice: service.#method(({ deviceId }: RemoveDeviceRequest, caller) => ({
        retiredCount: service.remove(caller, deviceId),
      })),
      getInventoryCount: service.#method(({ deviceId }: GetInventoryCountRequest, caller) => ({
        available: service.#count(caller, deviceId),
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

  /** Puts a coin into the stock of its device. */
  add(userId: string, coin: Coin): Outcome {
    const nowMs = this.nowMs();
    const { known, removed } = this.#devicesOf(userId);
    if (removed.has(coin.deviceId)) throw status.FAILED_PRECONDITION;
    known.add(coin.deviceId);
    const expiresMs = coin.expireTime?.getTime() ?? nowMs + COIN_LIFETIME;
    if (expiresMs > nowMs + COIN_LIFETIME + 5 * MINUTE) throw status.INVALID_ARGUMENT;
    const there = this.#stock(userId).get(coin.keyId);
    if (there?.isSpent) return Outcome.OUTCOME_SPENT;
    if (there) {
      const isSame = there.coin.publicKey.equals(coin.publicKey) && there.coin.deviceId === coin.deviceId;
      return isSame ? Outcome.OUTCOME_ALREADY_PRESENT : Outcome.OUTCOME_CONFLICT;
    }
    if (expiresMs <= nowMs + LAST_HANDOUT) return Outcome.OUTCOME_EXPIRED;
    const stored = { coin: { ...coin, expireTime: new Date(expiresMs) }, expiresMs, uploadedMs: nowMs, isSpent: false };
    this.#stock(userId).set(coin.keyId, stored);
    return Outcome.OUTCOME_INSERTED;
  }

  /** Returns the coins of a user's device that could be fetched now, the oldest first. */
  available(userId: string, deviceId = ''): Coin[] {
    const isAvailable = ({ isSpent, expiresMs, coin }: StoredCoin) =>
      !isSpent && expiresMs > this.nowMs() + LAST_HANDOUT && coin.deviceId === deviceId;
    return [...this.#stock(userId).values()].filter(isAvailable).map(({ coin }) => coin);
  }

  /** Returns the ids of a user's devices, the unnamed one first. */
  devicesOf(userId: string): string[] {
    return [...this.#devicesOf(userId).known].sort();
  }

  isRemoved(userId: string, deviceId: string): boolean {
    return this.#devicesOf(userId).removed.has(deviceId);
  }

  /** Returns the coins of a user's device that were neither handed out nor retired, expired ones too. */
  stockOf(userId: string, deviceId: string): Coin[] {
    const stored = [...this.#stock(userId).values()];
    return stored.filter(({ coin, isSpent }) => !isSpent && coin.deviceId === deviceId).map(({ coin }) => coin);
  }

  /** Removes a device of a user, and retires its coins. Returns their number. */
  remove(userId: string, deviceId: string): number {
    const { known, removed } = this.#devicesOf(userId);
    known.delete(deviceId);
    removed.add(deviceId);
    const coins = [...this.#stock(userId).values()].filter(
      ({ coin, isSpent }) => !isSpent && coin.deviceId === deviceId,
    );
    for (const stored of coins) stored.isSpent = true;
    return coins.length;
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

  #devicesOf(userId: string): Devices {
    const devices = this.#devices.get(userId) ?? { known: new Set(), removed: new Set() };
    this.#devices.set(userId, devices);
    return devices;
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

  #upload({ coins, databaseEpoch, deviceId }: UploadCoinsRequest, caller: string) {
    if (databaseEpoch !== this.#epoch) throw status.FAILED_PRECONDITION;
    const results = coins.map((coin) => ({ keyId: coin.keyId, outcome: this.add(caller, { ...coin, deviceId }) }));
    const insertedCount = results.filter(({ outcome }) => outcome === Outcome.OUTCOME_INSERTED).length;
    return { results, insertedCount, available: this.#count(caller, deviceId), databaseEpoch };
  }

  #fetch({ deviceId, ...request }: FetchCoinsRequest, caller: string): Coin[] {
    const [device] = this.#answer({ ...request, deviceIds: [deviceId] }, caller, [deviceId]);
    return device?.coins ?? [];
  }

  #fetchForDevices(request: DeviceCoinsRequest, caller: string): DeviceCoins[] {
    const { targetUserId, deviceIds } = request;
    const isAsked = (deviceId: string) => deviceIds.length === 0 || deviceIds.includes(deviceId);
    return this.#answer(request, caller, this.devicesOf(targetUserId).filter(isAsked));
  }

  /** Hands out coins of these devices, or repeats the answer of the request. */
  #answer(request: DeviceCoinsRequest, caller: string, deviceIds: readonly string[]): DeviceCoins[] {
    const { requestId, targetUserId, coinCategory, count, allowLowerCategories } = request;
    const name = `${caller} ${targetUserId} ${requestId}`;
    const before = this.#answers.get(name);
    if (before !== undefined && this.nowMs() - before.atMs <= FETCH_GRACE) return before.devices;
    const isWanted = (coin: Coin) =>
      allowLowerCategories ? coin.coinCategory >= coinCategory : coin.coinCategory === coinCategory;
    const devices = deviceIds.map((deviceId) => {
      const wanted = this.available(targetUserId, deviceId).filter(isWanted);
      const best = wanted.sort((a, b) => a.coinCategory - b.coinCategory).slice(0, count);
      return { deviceId, coins: best.map((coin) => this.handOut(targetUserId, coin)) };
    });
    const hasCoins = devices.some(({ coins }) => coins.length > 0);
    if (requestId !== '' && hasCoins) this.#answers.set(name, { devices, atMs: this.nowMs() });
    return devices;
  }

  #reconcile(
    { coinCategory, keyIds, complete, listedAt, databaseEpoch, deviceId }: ReconcileCoinsRequest,
    caller: string,
  ) {
    if (databaseEpoch !== this.#epoch) throw status.FAILED_PRECONDITION;
    const listedMs = listedAt?.getTime() ?? Number.NaN;
    if (!(listedMs <= this.nowMs())) throw status.INVALID_ARGUMENT;
    const results = keyIds.map((keyId) => ({ keyId, state: this.#stateOf(caller, keyId) }));
    const unlisted = [...this.#stock(caller).values()].filter(
      ({ coin, isSpent, uploadedMs }) =>
        complete &&
        !isSpent &&
        coin.coinCategory === coinCategory &&
        coin.deviceId === deviceId &&
        uploadedMs < listedMs &&
        !keyIds.includes(coin.keyId),
    );
    for (const stored of unlisted) {
      if (this.available(caller, deviceId).includes(stored.coin)) this.retired.push(stored.coin.keyId);
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

  #count(userId: string, deviceId: string): InventoryCount {
    const count = InventoryCount.create();
    for (const { category, countField } of COIN_CATEGORIES) {
      count[countField] = this.available(userId, deviceId).filter((coin) => coin.coinCategory === category).length;
    }
    return count;
  }
}
