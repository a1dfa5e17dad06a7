import { type Client, credentials, Metadata, status } from '@grpc/grpc-js';
import type { Coin } from '../../gen/aqm/coin/v1/coin';
import { CoinAdminServiceClient } from '../../gen/aqm/coin/v1/coin_admin_service';
import {
  CoinServiceClient,
  type FetchCoinsResult,
  CoinUploadResult_Outcome as Outcome,
} from '../../gen/aqm/coin/v1/coin_service';
import { type CallError, call, type Unary } from '../../testkit/call';
import { isIntact } from './coin-bytes';
import type { Failure, FetchCall, FetchedCoin, FetchItem, Millis, OtherCall, UploadCall } from './history';
import type { Recorder } from './recorder';
import type { SignedToken } from './token-issuer';

/** The identity of one client, and the services that it calls. */
export interface CallerOptions {
  readonly name: string;
  readonly userId: string;
  /** Returns the token of the next call. */
  readonly token: () => Promise<SignedToken>;
  /** One address per service. */
  readonly addresses: readonly string[];
  readonly recorder: Recorder;
}

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

  async upload(
    server: number,
    coins: readonly Coin[],
    timeoutMs: Millis,
  ): Promise<UploadCall & { available?: number[] }> {
    const { recorder } = this.#options;
    const request = { coins: [...coins], databaseEpoch: '', deviceId: '' };
    const result = await this.#call(server, this.#coins[server], (client) => client.uploadCoins, request, timeoutMs);
    const call: UploadCall = {
      ...result.facts,
      kind: 'upload',
      userId: this.userId,
      coins: coins.map(({ keyId, coinCategory, expireTime }) => ({
        keyId,
        category: coinCategory,
        ...(expireTime ? { handOutEnd: recorder.handOutEnd(expireTime) } : {}),
      })),
      ...(result.response ? { outcomes: result.response.results.map((one) => nameOf(one.outcome)) } : {}),
    };
    recorder.calls.push(call);
    return call;
  }

  /** Sends a fetch. A single item is sent as FetchCoins unless `asBatch` is true; several items as BatchFetchCoins. */
  async fetch(
    server: number,
    items: readonly FetchItem[],
    timeoutMs: Millis,
    asBatch = items.length > 1,
  ): Promise<FetchCall> {
    const requests = items.map((item) => ({
      targetUserId: item.targetUserId,
      coinCategory: item.category,
      count: item.count,
      requestId: item.requestId,
      allowLowerCategories: item.allowLower,
      deviceId: '',
    }));
    const [single] = requests;
    const client = this.#coins[server];
    let facts: Facts;
    let results: FetchCoinsResult[] | undefined;
    if (asBatch || !single) {
      const answered = await this.#call(server, client, (one) => one.batchFetchCoins, { requests }, timeoutMs);
      facts = answered.facts;
      results = answered.response?.results;
    } else {
      const answered = await this.#call(server, client, (one) => one.fetchCoins, single, timeoutMs);
      facts = answered.facts;
      results = answered.response && [{ coins: answered.response.coins, error: undefined }];
    }
    const call: FetchCall = {
      ...facts,
      kind: 'fetch',
      requesterId: this.userId,
      items: items.map(({ coins: _, failure: __, ...item }, index) => ({ ...item, ...answerOf(results?.[index]) })),
    };
    this.#options.recorder.calls.push(call);
    return call;
  }

  /** Counts the stock. @returns the counts by category number; undefined if the call failed */
  async count(server: number, timeoutMs: Millis): Promise<Map<number, number> | undefined> {
    const request = { deviceId: '' };
    const result = await this.#call(
      server,
      this.#coins[server],
      (client) => client.getInventoryCount,
      request,
      timeoutMs,
    );
    this.#recordOther('count', result.facts);
    const available = result.response?.available;
    return (
      available &&
      new Map([available.gold, available.silver, available.bronze].map((count, index) => [index + 1, count]))
    );
  }

  async purgeStale(server: number, timeoutMs: Millis): Promise<void> {
    const request = { maxAgeDays: 0 };
    const result = await this.#call(server, this.#admin[server], (client) => client.purgeStale, request, timeoutMs);
    this.#recordOther('purge', result.facts);
  }

  async hardDelete(server: number, timeoutMs: Millis): Promise<void> {
    const request = { graceHours: 0 };
    const result = await this.#call(
      server,
      this.#admin[server],
      (client) => client.hardDeleteFetched,
      request,
      timeoutMs,
    );
    this.#recordOther('hard-delete', result.facts);
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

  #recordOther(kind: OtherCall['kind'], facts: Facts): void {
    this.#options.recorder.calls.push({ ...facts, kind });
  }

  async #call<Stub extends Client, Request, Response>(
    server: number,
    stub: Stub | undefined,
    method: (stub: Stub) => Unary<Request, Response>,
    request: Request,
    timeoutMs: Millis,
  ): Promise<{ facts: Facts; response: Response | undefined }> {
    if (!stub) throw new Error(`there is no service ${server}`);
    const { recorder, name: client } = this.#options;
    const { token, key } = await this.#options.token();
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

function answerOf(result: FetchCoinsResult | undefined): { coins?: FetchedCoin[]; failure?: Failure } {
  if (!result) return {};
  if (result.error) return { failure: { code: status[result.error.code] ?? 'UNKNOWN', reason: result.error.reason } };
  return {
    coins: result.coins.map((coin) => ({
      keyId: coin.keyId,
      category: coin.coinCategory,
      ...(isIntact(coin) ? {} : { altered: true as const }),
    })),
  };
}

function nameOf(outcome: Outcome): string {
  return (Outcome[outcome] ?? 'UNRECOGNIZED').replace('OUTCOME_', '');
}
