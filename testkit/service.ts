import { generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { sql } from 'kysely';
import { BadRequest, ErrorInfo, RetryInfo } from 'nice-grpc-error-details';
import { Status } from 'nice-grpc-error-details/lib/proto/google/rpc/status';
import pino from 'pino';
import type { Coin } from '../gen/aqm/coin/v1/coin';
import { CoinAdminServiceClient } from '../gen/aqm/coin/v1/coin_admin_service';
import {
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
import { type ConnectionLimits, type Rate, readConfig, type TokenRules } from '../services/coin/config';
import { Fence } from '../services/coin/fence/fence';
import { issueToken } from '../services/coin/identity/development-key';
import { fixedKey } from '../services/coin/identity/token-keys';
import { verifyWith } from '../services/coin/identity/verify-token';
import { CoinLimits } from '../services/coin/limits/coin-limits';
import { CoinServer, type ServerOptions } from '../services/coin/server';
import { CoinInventoryServer, type InventoryRules } from '../services/coin/store/coin-inventory-server';
import type { Certificates } from '../services/coin/transport/certificates';
import { connectDatabase, createDatabase, type TestDatabase } from './test-database';

/** A failed call, with the parts of its google.rpc.Status taken out. */
export class CallError extends Error {
  constructor(
    readonly code: string,
    readonly reason: string,
    readonly fields: string[],
    readonly retryAfterMs: number | undefined,
    message: string,
  ) {
    super(message);
  }
}

type Unary<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: { deadline: number },
  callback: (error: ServiceError | null, response: Response) => void,
) => unknown;

/** Makes one call; a failure becomes a CallError. */
export function call<Request, Response>(
  method: Unary<Request, Response>,
  request: Request,
  token?: string,
  deadlineMs = 30_000,
): Promise<Response> {
  const metadata = new Metadata();
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
  return new Promise((resolve, reject) => {
    method(request, metadata, { deadline: Date.now() + deadlineMs }, (error, response) =>
      error ? reject(toCallError(error)) : resolve(response),
    );
  });
}

export function toCallError(error: ServiceError): CallError {
  const [packed] = error.metadata.get('grpc-status-details-bin');
  const { details } = packed instanceof Buffer ? Status.decode(packed) : { details: [] };
  const detail = (type: string) =>
    details.find((any) => any.typeUrl === `type.googleapis.com/google.rpc.${type}`)?.value;
  const info = detail('ErrorInfo');
  const bad = detail('BadRequest');
  const retry = detail('RetryInfo');
  const delay = retry ? RetryInfo.decode(retry).retryDelay : undefined;
  return new CallError(
    status[error.code],
    info ? ErrorInfo.decode(info).reason : '',
    bad ? BadRequest.decode(bad).fieldViolations.map((violation) => violation.field) : [],
    delay ? delay.seconds * 1000 + delay.nanos / 1e6 : undefined,
    error.details,
  );
}

/** Whichever replica has its turn. */
const IN_TURN = JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] });

/** One user's view of a service. */
export class User {
  readonly #coins: CoinServiceClient;
  readonly #admin: CoinAdminServiceClient;

  constructor(
    address: string,
    readonly id: string,
    readonly token: string,
  ) {
    // A connection of its own, as every real caller has.
    const options = { 'grpc.use_local_subchannel_pool': 1, 'grpc.service_config': IN_TURN };
    this.#coins = new CoinServiceClient(address, credentials.createInsecure(), options);
    this.#admin = new CoinAdminServiceClient(address, credentials.createInsecure(), options);
  }

  upload(coins: readonly Coin[], databaseEpoch = ''): Promise<UploadCoinsResponse> {
    const request = UploadCoinsRequest.create({ databaseEpoch });
    request.coins = [...coins];
    return call(this.#coins.uploadCoins.bind(this.#coins), request, this.token);
  }

  fetch(request: Partial<FetchCoinsRequest>, deadlineMs?: number): Promise<FetchCoinsResponse> {
    return call(this.#coins.fetchCoins.bind(this.#coins), FetchCoinsRequest.create(request), this.token, deadlineMs);
  }

  batchFetch(requests: readonly Partial<FetchCoinsRequest>[]): Promise<BatchFetchCoinsResponse> {
    const batch = { requests: requests.map((request) => FetchCoinsRequest.create(request)) };
    return call(this.#coins.batchFetchCoins.bind(this.#coins), batch, this.token);
  }

  count(): Promise<GetInventoryCountResponse> {
    return call(this.#coins.getInventoryCount.bind(this.#coins), {}, this.token);
  }

  reconcile(request: Partial<ReconcileCoinsRequest>): Promise<ReconcileCoinsResponse> {
    return call(this.#coins.reconcileCoins.bind(this.#coins), ReconcileCoinsRequest.create(request), this.token);
  }

  async purgeStale(maxAgeDays = 0): Promise<number> {
    const answer = await call(this.#admin.purgeStale.bind(this.#admin), { maxAgeDays }, this.token);
    return Number(answer.deletedCount);
  }

  async hardDelete(graceHours = 0): Promise<number> {
    const answer = await call(this.#admin.hardDeleteFetched.bind(this.#admin), { graceHours }, this.token);
    return Number(answer.deletedCount);
  }

  close(): void {
    this.#coins.close();
    this.#admin.close();
  }
}

export interface TestService {
  readonly address: string;
  readonly database: TestDatabase;
  readonly privateKey: KeyObject;
  user(options?: { id?: string; isAdmin?: boolean; ttlSeconds?: number; address?: string }): Promise<User>;
  readonly server: CoinServer;
  readonly store: CoinInventoryServer;
  readonly fence: Fence;
  /** One more port. @returns its address */
  listenAlso(certificates: Certificates): Promise<string>;
  /** Lets time pass for a table: moves a column of all its rows into the past. */
  age(table: string, column: string, interval: string): Promise<void>;
  stop(): Promise<void>;
}

const ANY: Rate = { perHour: 1, burst: 1 };
const NO_LIMITS = new CoinLimits(undefined, {
  perRequester: ANY,
  perPair: ANY,
  perTarget: ANY,
  perUploader: ANY,
  perReconciler: ANY,
});
export const NO_RULES: TokenRules = { issuer: undefined, audience: undefined, clockSkewSeconds: 0 };

/** Of the environment: how claims are made, so that the suite runs each way. */
const { AQM_CLAIM_BATCH, AQM_DISTRIBUTED } = process.env;
const { connections: CONNECTIONS, batching: BATCHING } = readConfig({ AQM_CLAIM_BATCH, AQM_DISTRIBUTED });
/** Whether a batch is one statement, or one for each item. */
export const IS_DISTRIBUTED = BATCHING.targets === 1;

const POOL_SIZE = 20;
/** How many replicas of the service the tests talk to in turn, unless they are about one process. */
export const REPLICAS = Number(process.env.TEST_REPLICAS || 1);

export interface TestServiceOptions extends Partial<Pick<ServerOptions, 'maxCalls' | 'maxWaitMs'>> {
  readonly replicas?: number;
  /** Of the replicas in turn. */
  readonly limits?: readonly CoinLimits[];
  /** Of another test service; else it makes one of its own. */
  readonly database?: TestDatabase;
  readonly logLevel?: string;
  readonly poolSize?: number;
  readonly connections?: Partial<ConnectionLimits>;
}

/** The service as main.ts builds it, on a port of its own, and on a database of its own or that of another one. */
export async function startService(
  rules: Partial<InventoryRules> = {},
  { database: shared, replicas = REPLICAS, ...options }: TestServiceOptions = {},
): Promise<TestService> {
  const database = shared
    ? connectDatabase(shared)
    : await createDatabase('migrated', { poolSize: options.poolSize ?? POOL_SIZE });
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const folder = mkdtempSync(join(tmpdir(), 'aqm-fence-'));
  const running: Replica[] = [];
  for (let place = 0; place < replicas; place += 1) {
    running.push(
      await startReplica(database, publicKey, { ...options, rules, place, folder: join(folder, `${place}`) }),
    );
  }
  const [first] = running;
  if (!first) throw new RangeError('A service has at least one replica.');
  const balanced = running.length === 1 ? first.address : `ipv4:${running.map(({ address }) => address).join()}`;
  const users: User[] = [];
  return {
    address: first.address,
    database,
    privateKey,
    server: first.server,
    store: first.store,
    fence: first.fence,
    listenAlso: (certificates) => first.server.listen('127.0.0.1', 0, certificates),
    age: async (table, column, interval) => {
      await sql`UPDATE ${sql.table(table)} SET ${sql.ref(column)} = ${sql.ref(column)} - ${interval}::interval`.execute(
        database.db,
      );
    },
    user: async ({ id = randomUUID(), isAdmin = false, ttlSeconds = 600, address: at = balanced } = {}) => {
      const token = { userId: id, isAdmin, ttlSeconds, now: new Date() };
      const user = new User(at, id, await issueToken(privateKey, token));
      users.push(user);
      return user;
    },
    stop: async () => {
      for (const user of users) user.close();
      for (const { stop } of running) await stop();
      await database.drop();
      rmSync(folder, { recursive: true });
    },
  };
}

interface Replica {
  readonly address: string;
  readonly server: CoinServer;
  readonly store: CoinInventoryServer;
  readonly fence: Fence;
  stop(): Promise<void>;
}

async function startReplica(
  database: TestDatabase,
  publicKey: KeyObject,
  {
    rules,
    folder,
    place,
    logLevel = 'error',
    maxCalls = 512,
    maxWaitMs = 60_000,
    limits = [],
    poolSize = POOL_SIZE,
    connections,
  }: TestServiceOptions & {
    readonly rules: Partial<InventoryRules>;
    readonly folder: string;
    readonly place: number;
  },
): Promise<Replica> {
  const { serviceDb: db, waiting } = database;
  const now = () => new Date();
  const logger = pino({ level: logLevel }, pino.destination(2));
  const fence = await Fence.open({ db, folder, poolSize, log: logger });
  const store = new CoinInventoryServer(db, fence, {
    fetchGraceSeconds: 3600,
    stockLimit: 1000,
    batching: { ...BATCHING, maxWaitMs },
    ...rules,
  });
  const server = new CoinServer({
    store,
    limits: limits[place % limits.length] ?? NO_LIMITS,
    verifyToken: verifyWith(fixedKey(publicKey), NO_RULES, now),
    logger,
    now,
    maxCalls,
    maxWaitMs,
    waiting,
    connections: { ...CONNECTIONS, ...connections },
  });
  return {
    address: await server.listen('127.0.0.1', 0),
    server,
    store,
    fence,
    stop: async () => {
      await server.stop(1000);
      fence.close();
    },
  };
}
