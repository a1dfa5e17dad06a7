import { type Client, credentials, Metadata } from '@grpc/grpc-js';
import type { Coin, CoinCategory } from '../../gen/aqm/coin/v1/coin';
import { CoinAdminServiceClient } from '../../gen/aqm/coin/v1/coin_admin_service';
import {
  CoinServiceClient,
  type GetInventoryCountResponse,
  type ReconcileCoinsResponse,
} from '../../gen/aqm/coin/v1/coin_service';
import { type CallError, call, type Unary } from '../../testkit/call';
import { answerOf, countsOf, deviceAnswerOf, outcomeName, toDeviceRequest, toFetchRequest } from './answers';
import type { ActingDevice, FetchCall, FetchItem, Millis, OtherCall, RemoveCall, UploadCall } from './history';
import type { Recorder } from './recorder';
import type { SignedToken } from './token-issuer';

/** The identity of one client, and the services that it calls. */
export interface CallerOptions {
  readonly name: string;
  readonly userId: string;
  /** Returns the token of the next call. `deviceId` is its claim; undefined: none. */
  readonly token: (deviceId?: string) => Promise<SignedToken>;
  /** One address per service. */
  readonly addresses: readonly string[];
  readonly recorder: Recorder;
}

/** The device that a call acts for, as its request and the claim of its token name it. */
export interface Acting {
  /** Empty: not named by the request. */
  readonly deviceId: string;
  /** Absent: not named by the token. */
  readonly claim?: string;
}

/** The ids of one category that a vault holds. */
export interface Listing {
  readonly coinCategory: CoinCategory;
  readonly keyIds: readonly string[];
  /** Present if the list is complete: the server's time before the vault was read. */
  readonly listedAt?: Date;
}

const UNNAMED: Acting = { deviceId: '' };

/** Calls the services under one identity, without retries, and records every request and its result. */
export class Caller {
  readonly #options: CallerOptions;
  readonly #coins: CoinServiceClient[];
  readonly #admin: CoinAdminServiceClient[];

  constructor(options: CallerOptions) {
    this.#options = options;
    const channel = {
      // Separate connections per client, as every device has its own.
      'grpc.use_local_subchannel_pool': 1,
      // Every attempt must appear in the history.
      'grpc.enable_retries': 0,
      'grpc.initial_reconnect_backoff_ms': 50,
      'grpc.max_reconnect_backoff_ms': 400,
    };
    const insecure = credentials.createInsecure();
    this.#coins = options.addresses.map((address) => new CoinServiceClient(address, insecure, channel));
    // CoinService and CoinAdminService share a connection.
    this.#admin = this.#coins.map((client, index) => {
      const channelOverride = client.getChannel();
      return new CoinAdminServiceClient(options.addresses[index] ?? '', insecure, { channelOverride });
    });
  }

  get userId(): string {
    return this.#options.userId;
  }

  async upload(server: number, coins: readonly Coin[], timeoutMs: Millis, acting = UNNAMED): Promise<UploadCall> {
    const { recorder } = this.#options;
    const request = { coins: [...coins], databaseEpoch: '', deviceId: acting.deviceId };
    const method = (client: CoinServiceClient) => client.uploadCoins;
    const { facts, response } = await this.#call(server, this.#coins[server], method, request, timeoutMs, acting.claim);
    const recorded: UploadCall = {
      ...facts,
      ...this.#actingDevice(acting),
      kind: 'upload',
      coins: coins.map(({ keyId, coinCategory, expireTime }) => ({
        keyId,
        category: coinCategory,
        ...(expireTime ? { handOutEnd: recorder.handOutEnd(expireTime) } : {}),
      })),
      ...(response ? { outcomes: response.results.map((one) => outcomeName(one.outcome)) } : {}),
    };
    recorder.calls.push(recorded);
    return recorded;
  }

  /**
   * Sends a fetch. Items that name several devices are sent as FetchDeviceCoins, other single ones as FetchCoins unless
   * `asBatch` is true, and several as BatchFetchCoins.
   */
  async fetch(
    server: number,
    items: readonly FetchItem[],
    timeoutMs: Millis,
    asBatch = items.length > 1,
  ): Promise<FetchCall> {
    const { facts, answers } = await this.#fetch(server, items, timeoutMs, asBatch);
    const recorded: FetchCall = {
      ...facts,
      kind: 'fetch',
      requesterId: this.userId,
      items: items.map(({ coins: _, devices: __, failure: ___, ...item }, index) => ({ ...item, ...answers?.[index] })),
    };
    this.#options.recorder.calls.push(recorded);
    return recorded;
  }

  async #fetch(server: number, items: readonly FetchItem[], timeoutMs: Millis, asBatch: boolean) {
    const client = this.#coins[server];
    const [first] = items;
    if (first?.askedDeviceIds) {
      const method = (one: CoinServiceClient) => one.fetchDeviceCoins;
      const request = { requests: items.map(toDeviceRequest) };
      const { facts, response } = await this.#call(server, client, method, request, timeoutMs);
      return { facts, answers: response?.results.map(deviceAnswerOf) };
    }
    if (asBatch || !first) {
      const method = (one: CoinServiceClient) => one.batchFetchCoins;
      const request = { requests: items.map(toFetchRequest) };
      const { facts, response } = await this.#call(server, client, method, request, timeoutMs);
      return { facts, answers: response?.results.map(answerOf) };
    }
    const method = (one: CoinServiceClient) => one.fetchCoins;
    const { facts, response } = await this.#call(server, client, method, toFetchRequest(first), timeoutMs);
    return { facts, answers: response && [answerOf({ coins: response.coins, error: undefined })] };
  }

  /** Counts the stock of a device. @returns undefined if the call failed */
  async count(server: number, timeoutMs: Millis, acting = UNNAMED): Promise<GetInventoryCountResponse | undefined> {
    const method = (client: CoinServiceClient) => client.getInventoryCount;
    const request = { deviceId: acting.deviceId };
    const { facts, response } = await this.#call(server, this.#coins[server], method, request, timeoutMs, acting.claim);
    this.#options.recorder.calls.push({
      ...facts,
      ...this.#actingDevice(acting),
      kind: 'count',
      ...(response ? { available: countsOf(response.available) } : {}),
    });
    return response;
  }

  /** Compares a listing with the stock of a device. @returns undefined if the call failed */
  async reconcile(
    server: number,
    { coinCategory, keyIds, listedAt }: Listing,
    timeoutMs: Millis,
    acting = UNNAMED,
  ): Promise<ReconcileCoinsResponse | undefined> {
    const method = (client: CoinServiceClient) => client.reconcileCoins;
    const complete = listedAt !== undefined;
    const { deviceId } = acting;
    const request = { coinCategory, keyIds: [...keyIds], complete, listedAt, databaseEpoch: '', deviceId };
    const { facts, response } = await this.#call(server, this.#coins[server], method, request, timeoutMs, acting.claim);
    const recorded = { ...facts, ...this.#actingDevice(acting) };
    this.#options.recorder.calls.push(
      complete
        ? {
            ...recorded,
            kind: 'retire',
            category: coinCategory,
            ...(response ? { retiredCount: response.retiredCount } : {}),
          }
        : { ...recorded, kind: 'states' },
    );
    return response;
  }

  async listDevices(server: number, timeoutMs: Millis): Promise<void> {
    const method = (client: CoinServiceClient) => client.listDevices;
    const { facts, response } = await this.#call(server, this.#coins[server], method, {}, timeoutMs);
    const devices = response?.devices.map(({ deviceId, available }) => ({ deviceId, available: countsOf(available) }));
    this.#options.recorder.calls.push({
      ...facts,
      kind: 'list',
      userId: this.userId,
      ...(devices ? { devices } : {}),
    });
  }

  async removeDevice(server: number, deviceId: string, timeoutMs: Millis): Promise<RemoveCall> {
    const method = (client: CoinServiceClient) => client.removeDevice;
    const { facts, response } = await this.#call(server, this.#coins[server], method, { deviceId }, timeoutMs);
    const recorded: RemoveCall = {
      ...facts,
      kind: 'remove',
      userId: this.userId,
      deviceId,
      ...(response ? { retiredCount: response.retiredCount } : {}),
    };
    this.#options.recorder.calls.push(recorded);
    return recorded;
  }

  async purgeStale(server: number, timeoutMs: Millis): Promise<void> {
    const method = (client: CoinAdminServiceClient) => client.purgeStale;
    const { facts } = await this.#call(server, this.#admin[server], method, { maxAgeDays: 0 }, timeoutMs);
    this.#options.recorder.calls.push({ ...facts, kind: 'purge' });
  }

  async hardDelete(server: number, timeoutMs: Millis): Promise<void> {
    const method = (client: CoinAdminServiceClient) => client.hardDeleteFetched;
    const { facts } = await this.#call(server, this.#admin[server], method, { graceHours: 0 }, timeoutMs);
    this.#options.recorder.calls.push({ ...facts, kind: 'hard-delete' });
  }

  /** Resolves when every service is connected, or after `withinMs`. */
  async connected(withinMs: Millis): Promise<void> {
    const deadline = Date.now() + withinMs;
    await Promise.all(
      this.#coins.map((client) => new Promise<void>((resolve) => client.waitForReady(deadline, () => resolve()))),
    );
  }

  close(): void {
    for (const client of [...this.#coins, ...this.#admin]) client.close();
  }

  #actingDevice({ deviceId, claim = '' }: Acting): ActingDevice {
    const isMismatched = deviceId !== '' && claim !== '' && deviceId !== claim;
    return { userId: this.userId, deviceId: deviceId || claim, ...(isMismatched ? { isMismatched } : {}) };
  }

  /** Makes a call and measures it. A failure is returned as part of the facts. */
  async #call<Stub extends Client, Request, Response>(
    server: number,
    stub: Stub | undefined,
    method: (stub: Stub) => Unary<Request, Response>,
    request: Request,
    timeoutMs: Millis,
    claim?: string,
  ): Promise<{ facts: Facts; response: Response | undefined }> {
    if (!stub) throw new Error(`there is no service ${server}`);
    const { recorder, name: client } = this.#options;
    const { token, key } = await this.#options.token(claim);
    const metadata = new Metadata();
    metadata.set('authorization', `Bearer ${token}`);
    const id = recorder.nextCall();
    const start = recorder.now();
    const facts = () => ({
      call: id,
      client,
      server,
      start,
      end: recorder.now(),
      ...(key === undefined ? {} : { key }),
    });
    try {
      const response = await call(method(stub).bind(stub), request, metadata, timeoutMs);
      return { facts: facts(), response };
    } catch (error) {
      const { code, reason } = error as CallError;
      return { facts: { ...facts(), failure: { code, reason } }, response: undefined };
    }
  }
}

type Facts = Omit<OtherCall, 'kind'>;
