import { join } from 'node:path';
import { hostAndPort, integer, oneOf, onOrOff, path, postgresUrl, rate, redisUrl, secureUrl, text } from './formats';
import { optionalSetting, type Setting, setting } from './setting';

/** Largest number of coins in one fetch; a smaller burst would refuse such a fetch for ever. */
const COINS_PER_FETCH = 20;
/** Largest number of coins in one upload; a smaller burst would refuse such an upload for ever. */
const COINS_PER_UPLOAD = 100;
/** Largest number of devices of one user: no list of the contract holds more. */
const DEVICES_PER_USER = 50;
/** A device with 10,000 coins makes 16 calls for one reconcile. */
const CALLS_PER_RECONCILE = 20;
const WEEK_S = 604_800;
const TEN_MINUTES_MS = 600_000;
const DAY_MS = 86_400_000;

/**
 * Declares every setting of the service, once. Validation, the type of the configuration, `aqm config` and the tables of
 * docs/configuration.md are made from this.
 */
export const SETTINGS = {
  listen: setting({
    env: 'AQM_LISTEN',
    group: 'Network and process',
    format: hostAndPort,
    default: '127.0.0.1:50051',
    description: 'The address at which the service listens. Port 0 picks a free port.',
  }),
  workers: setting({
    env: 'AQM_WORKERS',
    group: 'Network and process',
    format: integer(1, 64, 'processes'),
    default: '1',
    description:
      'The number of processes that serve at the address; see [below](#running-several-worker-processes). With more than one, rate limits need `AQM_LIMITS_REDIS_URL`.',
  }),
  drainTimeoutMs: setting({
    env: 'AQM_DRAIN_TIMEOUT_MS',
    group: 'Network and process',
    format: integer(0, TEN_MINUTES_MS, 'ms'),
    default: '25000',
    description:
      'Time that accepted calls have to finish after SIGTERM, SIGINT, SIGHUP or SIGQUIT, before they are cut off.',
  }),
  startTimeoutMs: setting({
    env: 'AQM_START_TIMEOUT_MS',
    group: 'Network and process',
    format: integer(0, DAY_MS, 'ms'),
    default: '300000',
    description:
      'Time for which a start waits for a database or an issuer of token keys that does not answer. Meanwhile health is answered, calls fail with UNAVAILABLE, and the log says what is missing. Then the process ends with exit code 1; with `0` it does so at once.',
  }),
  hasReflection: setting({
    env: 'AQM_REFLECTION',
    group: 'Network and process',
    format: onOrOff,
    default: 'on',
    description:
      'gRPC server reflection, for tools such as grpcurl. It describes the published contract, without a token. `off`: it is answered with UNIMPLEMENTED.',
  }),
  hasStatusPage: setting({
    env: 'AQM_STATUS_PAGE',
    group: 'Network and process',
    format: onOrOff,
    default: 'on',
    description:
      'The [status page](observability.md#see-it) at `/status` of the metrics port, and what `aqm top` reads there. It is served only where `OTEL_METRICS_EXPORTER` names `prometheus`, without a token, and shows no ids. `off`: it is not served.',
  }),
  tlsCertificate: optionalSetting({
    env: 'AQM_TLS_CERT_FILE',
    group: 'TLS',
    format: path,
    description:
      "PEM file of the server's certificate, followed by the certificates between it and its root. Needs `AQM_TLS_KEY_FILE`. Renewed files are loaded within a minute, for new connections.",
  }),
  tlsKey: optionalSetting({
    env: 'AQM_TLS_KEY_FILE',
    group: 'TLS',
    format: path,
    description: "PEM file of the certificate's private key.",
  }),
  tlsClientCa: optionalSetting({
    env: 'AQM_TLS_CLIENT_CA_FILE',
    group: 'TLS',
    format: path,
    description: 'PEM file of the authority that signs the certificates which clients must show (mutual TLS).',
  }),
  plaintext: setting({
    env: 'AQM_PLAINTEXT',
    group: 'TLS',
    format: oneOf('loopback', 'anywhere'),
    default: 'loopback',
    description:
      'Without TLS, the service listens on loopback only, unless this is `anywhere`. `anywhere` is for a service behind a proxy that ends TLS.',
  }),
  databaseUrl: optionalSetting({
    env: 'DATABASE_URL',
    group: 'Database',
    format: postgresUrl,
    description:
      'The PostgreSQL database (version 16 or newer). Without it, the service runs its own PostgreSQL under `AQM_DATA_DIR`. Query parameters that are not [listed below](#query-parameters-of-a-database-url) are refused.',
  }),
  readDatabaseUrl: optionalSetting({
    env: 'AQM_READ_DATABASE_URL',
    group: 'Database',
    format: postgresUrl,
    description:
      'A streaming replica of `DATABASE_URL` on which `GetInventoryCount` counts coins. While it cannot be reached or is more than 10 s behind, the primary counts ([distributed.md](distributed.md)).',
  }),
  dataDir: setting({
    env: 'AQM_DATA_DIR',
    group: 'Database',
    format: path,
    default: '.aqm',
    description: 'The folder of the embedded PostgreSQL and of the development key.',
  }),
  fenceDir: setting({
    env: 'AQM_FENCE_DIR',
    group: 'Database',
    format: path,
    default: {
      rule: '`fence` in `AQM_DATA_DIR`',
      from: (textOf) => join(textOf('AQM_DATA_DIR') ?? '', 'fence'),
    },
    description:
      'The folder of the restore fence, [below](#when-the-database-was-restored). It must be persistent and the same for all services of one database, whose hosts need different names.',
  }),
  poolSize: setting({
    env: 'AQM_POOL_SIZE',
    group: 'Database',
    format: integer(1, 1000, 'connections'),
    default: '20',
    description: 'The largest number of connections to PostgreSQL, per process.',
  }),
  pooler: setting({
    env: 'AQM_POOLER',
    group: 'Database',
    format: oneOf('none', 'transaction', 'transaction-prepared'),
    default: 'none',
    description:
      '`transaction`: `DATABASE_URL` leads to PgBouncer, or a pooler like it, in transaction mode; see [below](#through-pgbouncer). `transaction-prepared`: it also supports protocol-level prepared statements (PgBouncer 1.21 with `max_prepared_statements`).',
  }),
  isDistributed: setting({
    env: 'AQM_DISTRIBUTED',
    group: 'Database',
    format: onOrOff,
    default: 'off',
    description:
      '`on` for tables that are distributed or partitioned by `user_id`: every statement then names one user and no `ctid`, and up to 16 of them run at the same time ([distributed.md](distributed.md)).',
  }),
  claimBatch: setting({
    env: 'AQM_CLAIM_BATCH',
    group: 'Database',
    format: integer(1, 1000, 'fetches'),
    default: '256',
    description:
      'The largest number of waiting fetches that share one statement. `1`: each fetch has its own statement.',
  }),
  connectTimeoutMs: setting({
    env: 'AQM_CONNECT_TIMEOUT_MS',
    group: 'Database',
    format: integer(10, TEN_MINUTES_MS, 'ms'),
    default: '1500',
    description:
      'Longest wait of a call for a connection, a free one or a new one. While PostgreSQL cannot be reached, calls fail at once with `DATABASE_UNAVAILABLE`, and connections are retried with pauses that grow to one second.',
  }),
  statementTimeoutMs: setting({
    env: 'AQM_STATEMENT_TIMEOUT_MS',
    group: 'Database',
    format: integer(100, TEN_MINUTES_MS, 'ms'),
    default: '5000',
    description: 'PostgreSQL cancels a statement after this time. The service gives up one second later.',
  }),
  lockTimeoutMs: setting({
    env: 'AQM_LOCK_TIMEOUT_MS',
    group: 'Database',
    format: integer(10, TEN_MINUTES_MS, 'ms'),
    default: '1000',
    description: 'Longest wait of a fetch for coins that another transaction has locked.',
  }),
  postgresPackage: optionalSetting({
    env: 'AQM_POSTGRES_PACKAGE',
    group: 'Database',
    format: text,
    description:
      "The npm package with the programs of the embedded PostgreSQL. Default: the package of the platform. `postgres-16` and `postgres-17` are for the project's own tests.",
  }),
  tokenKeyFile: optionalSetting({
    env: 'AQM_TOKEN_PUBLIC_KEY_FILE',
    group: 'Tokens',
    format: path,
    description:
      'File of the public keys that tokens are verified with (EdDSA, ES256, RS256): PEM (one or several), a JWK, or a JWK Set; `aqm jwks` makes a set of several files. A changed file is loaded within 5 s. Without it and without `AQM_TOKEN_JWKS_URL`, the development key is used, on loopback only.',
  }),
  tokenJwksUrl: optionalSetting({
    env: 'AQM_TOKEN_JWKS_URL',
    group: 'Tokens',
    format: secureUrl,
    description:
      'URL of a JWK Set with these keys, instead of a file. `http://` is accepted on loopback only, user and password are not accepted. It is fetched at the start, every 10 minutes, and for an unknown key id. While it cannot be fetched, the last set stays in use.',
  }),
  tokenIssuer: optionalSetting({
    env: 'AQM_TOKEN_ISSUER',
    group: 'Tokens',
    format: text,
    description: "The required `iss` of a token. Without it, a token's `iss` is not checked.",
  }),
  tokenAudience: optionalSetting({
    env: 'AQM_TOKEN_AUDIENCE',
    group: 'Tokens',
    format: text,
    description: "The required `aud` of a token, or one of its `aud`. Without it, a token's `aud` is not checked.",
  }),
  fetchGraceSeconds: setting({
    env: 'AQM_FETCH_GRACE',
    group: 'Coins',
    format: integer(1, WEEK_S, 's'),
    default: '3600',
    description:
      'For this long, a fetch that is repeated with its `request_id` returns the same coins. Then its coins are hard-deleted. The longest of all services of one database counts.',
  }),
  stockLimit: setting({
    env: 'AQM_STOCK_LIMIT',
    group: 'Coins',
    format: integer(1, 1_000_000, 'coins'),
    default: '1000',
    description:
      'The largest number of coins that one device of a user may have in stock, per category. It is exact, also for parallel uploads.',
  }),
  maxDevices: setting({
    env: 'AQM_MAX_DEVICES',
    group: 'Coins',
    format: integer(1, DEVICES_PER_USER, 'devices'),
    default: '50',
    description:
      'The largest number of devices that one user may have; removed ones do not count. An upload of a further device fails with `TOO_MANY_DEVICES`. The lists of the contract hold no more than 50.',
  }),
  areLimitsOn: setting({
    env: 'AQM_LIMITS',
    group: 'Rate limits',
    format: onOrOff,
    default: 'on',
    description: '`off` disables all rate limits. It is for load tests.',
  }),
  limitsRedisUrl: optionalSetting({
    env: 'AQM_LIMITS_REDIS_URL',
    group: 'Rate limits',
    format: redisUrl,
    description:
      'A Redis through which all replicas share their rate limits. While it cannot be reached, calls fail with `LIMITS_UNAVAILABLE`. Without it, each process has its own limits in memory, so N processes grant N times the limit.',
  }),
  perRequester: setting({
    env: 'AQM_LIMIT_PER_REQUESTER',
    group: 'Rate limits',
    format: rate('coins', COINS_PER_FETCH),
    default: '3000/3000',
    description:
      'Coins that one requester may fetch, from all targets together: by default the whole budgets of 100 contacts with 3 devices each at once. Coins that were not in stock and repeats do not count, here and in the next two rows. A `FetchDeviceCoins` is charged one device for each user before, and the others afterwards; what is missing then is owed.',
  }),
  perPair: setting({
    env: 'AQM_LIMIT_PER_PAIR',
    group: 'Rate limits',
    format: rate('coins', 1),
    default: '10/10',
    description:
      'Coins of one category that one requester may fetch from one device of a target: by default as many as the whole budget of a contact ([how the defaults were chosen](#how-the-default-limits-were-chosen)). All its `FetchDeviceCoins` together have as much once more. A fetch of more than the burst needs a full budget, which then takes longer to refill.',
  }),
  perTarget: setting({
    env: 'AQM_LIMIT_PER_TARGET',
    group: 'Rate limits',
    format: rate('coins', COINS_PER_FETCH),
    default: '600/200',
    description:
      'Coins that all requesters together may fetch from one device of a target, and once more by `FetchDeviceCoins`. It slows a drain by many requesters before a full stock is empty.',
  }),
  perUploader: setting({
    env: 'AQM_LIMIT_PER_UPLOADER',
    group: 'Rate limits',
    format: rate('coins', COINS_PER_UPLOAD),
    default: '2000/2000',
    description: 'Coins that one user may upload. Coins that were stored already do not count.',
  }),
  perReconciler: setting({
    env: 'AQM_LIMIT_PER_RECONCILER',
    group: 'Rate limits',
    format: rate('calls', CALLS_PER_RECONCILE),
    default: '600/200',
    description:
      'Calls of `ReconcileCoins` and `RemoveDevice` that one user may make. A device with 10,000 coins makes 16 of them for one reconcile.',
  }),
  perCaller: setting({
    env: 'AQM_LIMIT_PER_CALLER',
    group: 'Rate limits',
    format: rate('calls', 1),
    default: '72000/300',
    description:
      'Calls that one user may make, of all methods together, in each process. Five more items of a batch, or devices of a `FetchDeviceCoins`, count as one more call, a request that cannot be decoded as 20 more. One user may also have at most an eighth of `AQM_MAX_CALLS` in progress.',
  }),
  maxCalls: setting({
    env: 'AQM_MAX_CALLS',
    group: 'Load',
    format: integer(1, 100_000, 'calls'),
    default: '512',
    description:
      'The largest number of calls in progress. Further calls are refused at once with `OVERLOADED`, so that accepted calls do not wait long.',
  }),
  maxWaitMs: setting({
    env: 'AQM_MAX_WAIT_MS',
    group: 'Load',
    format: integer(1, TEN_MINUTES_MS, 'ms'),
    default: '500',
    description:
      'A call is refused at once with `OVERLOADED` if its estimated wait for a connection to PostgreSQL, or of a fetch for its batch, is longer than this. The queue is therefore as long as the database is fast.',
  }),
  maxConnections: setting({
    env: 'AQM_MAX_CONNECTIONS',
    group: 'Load',
    format: integer(1, 1_000_000, 'connections'),
    default: '16000',
    description:
      'The largest number of client connections. Excess connections are reset. The process needs as many file descriptors.',
  }),
  maxPerAddress: setting({
    env: 'AQM_MAX_CONNECTIONS_PER_ADDRESS',
    group: 'Load',
    format: integer(1, 1_000_000, 'connections'),
    default: '1000',
    description:
      'The largest number of connections per client (IPv4 address or IPv6 /64). Behind a proxy or NAT that many clients share, raise it to `AQM_MAX_CONNECTIONS`.',
  }),
  idleTimeoutMs: setting({
    env: 'AQM_IDLE_TIMEOUT_MS',
    group: 'Load',
    format: integer(100, DAY_MS, 'ms'),
    default: '300000',
    description: 'A connection is closed after this time without a call.',
  }),
  logLevel: setting({
    env: 'AQM_LOG_LEVEL',
    group: 'Logging',
    format: oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
    default: 'info',
    description: 'The lowest level that is logged, as lines of JSON on stderr.',
  }),
};

/** Every setting, in the order in which it is declared and documented. */
export const ALL_SETTINGS: readonly Setting<unknown>[] = Object.values(SETTINGS);

type Declared = typeof SETTINGS;
type ValueOf<Declaration> = Declaration extends Setting<infer Value> & { readonly isOptional: infer IsOptional }
  ? IsOptional extends true
    ? Value | undefined
    : Value
  : never;

/** The value of every setting. */
export type SettingValues = { readonly [Name in keyof Declared]: ValueOf<Declared[Name]> };
