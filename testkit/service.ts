import { generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import pino from 'pino';
import { type ConnectionLimits, type Rate, readConfig, type TokenRules } from '../services/coin/config';
import { Fence } from '../services/coin/fence/fence';
import { issueToken } from '../services/coin/identity/development-key';
import { fixedKey } from '../services/coin/identity/token-keys';
import { verifyWith } from '../services/coin/identity/verify-token';
import { CoinLimits } from '../services/coin/limits/coin-limits';
import { CoinServer, type ServerOptions } from '../services/coin/server';
import { CoinInventoryServer, type InventoryRules } from '../services/coin/store/coin-inventory-server';
import { declareFetchGrace } from '../services/coin/store/fetch-grace';
import type { Certificates } from '../services/coin/transport/certificates';
import { connectDatabase, createDatabase, type TestDatabase, type Timeouts } from './test-database';
import { User } from './user';

export interface TestService {
  readonly address: string;
  readonly database: TestDatabase;
  readonly privateKey: KeyObject;
  /** @param options `deviceId`: the device that the token names; none by default */
  user(options?: {
    id?: string;
    deviceId?: string | undefined;
    isAdmin?: boolean;
    ttlSeconds?: number;
    address?: string;
  }): Promise<User>;
  readonly server: CoinServer;
  readonly store: CoinInventoryServer;
  readonly fence: Fence;
  /** Listens on one more port. @returns its address */
  listenAlso(certificates: Certificates): Promise<string>;
  /** Ages the rows of a table: moves one of its columns into the past by an interval such as '2 hours'. */
  age(table: string, column: string, interval: string): Promise<void>;
  stop(): Promise<void>;
}

const ANY: Rate = { perHour: 1, burst: 1 };
export const NO_LIMITS = new CoinLimits(undefined, {
  perRequester: ANY,
  perPair: ANY,
  perTarget: ANY,
  perUploader: ANY,
  perReconciler: ANY,
  perCaller: ANY,
});
export const NO_RULES: TokenRules = { issuer: undefined, audience: undefined, clockSkewSeconds: 0 };

/** The batching of claims comes from the environment, so that `npm run check` can run the suite with each kind of claim. */
const { AQM_CLAIM_BATCH, AQM_DISTRIBUTED } = process.env;
const { connections: CONNECTIONS, batching: BATCHING } = readConfig({ AQM_CLAIM_BATCH, AQM_DISTRIBUTED });
/** True if each request is a statement of its own, as on tables that are distributed by user_id. */
export const IS_DISTRIBUTED = BATCHING.targets === 1;

const POOL_SIZE = 20;
/** The number of replicas of the service that the tests call alternately. Tests about one process start one. */
export const REPLICAS = Number(process.env.TEST_REPLICAS || 1);

export interface TestServiceOptions extends Partial<Pick<ServerOptions, 'maxCalls' | 'maxWaitMs'>> {
  readonly replicas?: number;
  /** The rate limits of the replicas, in their order, repeated as needed. No limits by default. */
  readonly limits?: readonly CoinLimits[];
  /** The database of another test service. Creates a database by default. */
  readonly database?: TestDatabase;
  readonly logLevel?: string;
  /** Receives the log lines; stderr by default. */
  readonly logTo?: pino.DestinationStream;
  readonly poolSize?: number;
  /** Timeouts of the database, for tests about them. */
  readonly timeouts?: Partial<Timeouts>;
  readonly connections?: Partial<ConnectionLimits>;
  /** Server reflection; on by default. */
  readonly hasReflection?: boolean;
}

/** Starts the service in this process, built as main.ts builds it, on a free port. */
export async function startService(
  rules: Partial<InventoryRules> = {},
  { database: shared, replicas = REPLICAS, ...options }: TestServiceOptions = {},
): Promise<TestService> {
  const database = shared
    ? connectDatabase(shared)
    : await createDatabase('migrated', { poolSize: options.poolSize ?? POOL_SIZE, ...options.timeouts });
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const folder = mkdtempSync(join(tmpdir(), 'aqm-fence-'));
  const running: Replica[] = [];
  for (let index = 0; index < replicas; index += 1) {
    running.push(
      await startReplica(database, publicKey, { ...options, rules, index, folder: join(folder, `${index}`) }),
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
    user: async ({ id = randomUUID(), deviceId, isAdmin = false, ttlSeconds = 600, address: at = balanced } = {}) => {
      const token = { userId: id, deviceId, isAdmin, ttlSeconds, now: new Date() };
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
    index,
    logLevel = 'error',
    logTo = pino.destination(2),
    maxCalls = 512,
    maxWaitMs = 60_000,
    limits = [],
    poolSize = POOL_SIZE,
    connections,
    hasReflection = true,
  }: TestServiceOptions & {
    readonly rules: Partial<InventoryRules>;
    readonly folder: string;
    readonly index: number;
  },
): Promise<Replica> {
  const { serviceDb: db, waiting } = database;
  const now = () => new Date();
  const logger = pino({ level: logLevel }, logTo);
  const fence = await Fence.open({ db, folder, poolSize, log: logger });
  const store = new CoinInventoryServer(db, fence, {
    fetchGraceSeconds: 3600,
    stockLimit: 1000,
    batching: { ...BATCHING, maxWaitMs },
    ...rules,
  });
  await declareFetchGrace(db, rules.fetchGraceSeconds ?? 3600);
  const server = new CoinServer({
    store,
    limits: limits[index % limits.length] ?? NO_LIMITS,
    verifyToken: verifyWith(fixedKey(publicKey), NO_RULES, now),
    logger,
    now,
    maxCalls,
    maxWaitMs,
    waiting,
    connections: { ...CONNECTIONS, ...connections },
    hasReflection,
  });
  return {
    address: await server.listen('127.0.0.1', 0),
    server,
    store,
    fence,
    stop: async () => {
      await server.stop(1000);
      await fence.close();
    },
  };
}
