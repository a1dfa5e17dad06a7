import { isIP } from 'node:net';
import { join, resolve } from 'node:path';

/** What the process is told by its environment; see docs/configuration.md. The only reader of process.env. */
export interface Config {
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  /** Processes that share the address; see workers.ts. 1: this one alone. */
  readonly workers: number;
  readonly dataDir: string;
  /** Where the mark of the restore fence lies; the same for all services of one database. */
  readonly fenceDir: string;
  /** undefined: run the embedded PostgreSQL in dataDir. */
  readonly databaseUrl: string | undefined;
  /** A replica of it that counts coins. undefined: it counts them itself. */
  readonly readDatabaseUrl: string | undefined;
  /** Where the public keys of those who sign tokens are: a file or a URL. undefined: the development key. */
  readonly tokenKeys: { readonly file: string } | { readonly url: string } | undefined;
  readonly tokenRules: TokenRules;
  /** undefined: plain text. */
  readonly tls: TlsFiles | undefined;
  readonly limits: {
    readonly isOn: boolean;
    /** Where replicas share their budgets; undefined: each has its own. */
    readonly redisUrl: string | undefined;
    readonly rates: CoinRates;
  };
  readonly fetchGraceSeconds: number;
  readonly stockLimit: number;
  /** Calls that are worked on at the same time; further ones are refused at once. */
  readonly maxCalls: number;
  /** While a call has waited longer for a connection to PostgreSQL, new ones are refused at once. */
  readonly maxWaitMs: number;
  readonly connections: ConnectionLimits;
  /** How fetches that wait together share statements; see store/claim/batcher.ts. */
  readonly batching: {
    readonly batch: number;
    readonly queues: number;
    readonly targets: number;
    readonly maxWaitMs: number;
    readonly stallTimeoutMs: number;
  };
  readonly poolSize: number;
  /** What stands between the service and its PostgreSQL. transaction: connections keep nothing from one transaction to the next. */
  readonly pooler: 'none' | 'transaction';
  readonly preparedStatements: boolean;
  readonly connectTimeoutMs: number;
  readonly statementTimeoutMs: number;
  readonly lockTimeoutMs: number;
  readonly idleInTransactionTimeoutMs: number;
  readonly drainTimeoutMs: number;
  readonly logLevel: string;
  /** npm package of the embedded PostgreSQL's programs; undefined: the platform's default. */
  readonly postgresPackage: string | undefined;
  readonly migrationsDir: string;
}

/** What a connection may do and cost, and how many there may be; see transport/. Times in milliseconds. */
export interface ConnectionLimits {
  readonly maxConnections: number;
  readonly maxPerAddress: number;
  readonly maxStreams: number;
  readonly maxHeaderBytes: number;
  readonly callTimeoutMs: number;
  readonly handshakeTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly maxAgeMs: number;
  readonly keepaliveMs: number;
  readonly keepaliveTimeoutMs: number;
}

/** How many coins an hour, or calls, and how many of them at once. */
export interface Rate {
  readonly perHour: number;
  readonly burst: number;
}

/** See limits/coin-limits.ts. */
export interface CoinRates {
  /** Fetched by one requester, of everybody. */
  readonly perRequester: Rate;
  /** Fetched by one requester of one target. */
  readonly perPair: Rate;
  /** Fetched of one target, by everybody: so that a drain by many is slowed before a full stock is empty. */
  readonly perTarget: Rate;
  /** Uploaded by one user. */
  readonly perUploader: Rate;
  /** ReconcileCoins calls of one user: each reads and may retire up to 1000 coins. */
  readonly perReconciler: Rate;
}

/** PEM files; see certificates.ts. */
export interface TlsFiles {
  /** The server's certificate, with those between it and its root. */
  readonly certificate: string;
  readonly key: string;
  /** Who signs the certificates that clients must show; undefined: they need none. */
  readonly clientCa: string | undefined;
}

/** What a token must say besides who is calling. */
export interface TokenRules {
  /** Its `iss`; undefined: not checked. */
  readonly issuer: string | undefined;
  /** Its `aud`, or one of them; undefined: not checked. */
  readonly audience: string | undefined;
  /** How far the clocks of issuer and service may be apart, in seconds. */
  readonly clockSkewSeconds: number;
}

/** One or more settings cannot be used; the message has a line for each. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];
const DAY_S = 86_400;
const DAY_MS = DAY_S * 1000;

/** Reads and checks everything at once. @throws ConfigError */
export function readConfig(env: NodeJS.ProcessEnv): Config {
  const problems: string[] = [];

  const integer = (name: string, fallback: number, min: number, max: number): number => {
    const text = env[name];
    if (text === undefined || text === '') return fallback;
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= min && value <= max) return value;
    problems.push(`${name} must be a whole number from ${min} to ${max}; it is "${text}"`);
    return fallback;
  };
  const oneOf = (name: string, fallback: string, allowed: readonly string[]): string => {
    const text = env[name] || fallback;
    if (!allowed.includes(text)) problems.push(`${name} must be one of ${allowed.join(', ')}; it is "${text}"`);
    return text;
  };

  const rate = (name: string, fallback: string, leastBurst: number, what = 'coins'): Rate => {
    const text = env[name] || fallback;
    const [, perHour = '', burst = perHour] = /^(\d{1,9})(?:\/(\d{1,9}))?$/.exec(text) ?? [];
    if (Number(perHour) < 1 || Number(burst) < leastBurst) {
      problems.push(
        `${name} must be ${what} an hour and, after a slash, how many at once (${leastBurst} or more), such as ${fallback}; it is "${text}"`,
      );
    }
    return { perHour: Number(perHour), burst: Number(burst) };
  };

  const listen = env.AQM_LISTEN || '127.0.0.1:50051';
  const [, host = '', port = ''] = /^(.+):(\d{1,5})$/.exec(listen) ?? [];
  if (host === '' || Number(port) > 65_535) {
    problems.push(`AQM_LISTEN must be host:port, for example 127.0.0.1:50051; it is "${listen}"`);
  }

  const databaseUrl = env.DATABASE_URL || undefined;
  if (databaseUrl !== undefined && !/^postgres(ql)?:\/\//.test(databaseUrl)) {
    problems.push('DATABASE_URL must begin with postgresql://');
  }

  const readDatabaseUrl = env.AQM_READ_DATABASE_URL || undefined;
  if (readDatabaseUrl !== undefined && !/^postgres(ql)?:\/\//.test(readDatabaseUrl)) {
    problems.push('AQM_READ_DATABASE_URL must begin with postgresql://');
  }
  if (readDatabaseUrl !== undefined && databaseUrl === undefined) {
    problems.push('AQM_READ_DATABASE_URL needs DATABASE_URL, the URL of the database that it is a replica of');
  }

  const pooler = oneOf('AQM_POOLER', 'none', ['none', 'transaction']) === 'transaction' ? 'transaction' : 'none';
  if (pooler !== 'none' && databaseUrl === undefined)
    problems.push('AQM_POOLER needs DATABASE_URL, the URL of the pooler');

  const workers = integer('WORKERS', 1, 1, 64);
  const areLimitsOn = oneOf('AQM_LIMITS', 'on', ['on', 'off']) === 'on';
  const redisUrl = redisUrlOf(env, problems);
  if (workers > 1 && areLimitsOn && redisUrl === undefined) {
    problems.push(
      `WORKERS=${workers} are processes that must share their limits, or everybody may fetch ${workers} times as much: AQM_LIMITS_REDIS_URL must name a Redis (AQM_LIMITS=off is for load tests)`,
    );
  }

  const tokenKeys = tokenKeysOf(env, problems);
  if (!tokenKeys && host !== '' && !isLoopback(host)) {
    problems.push(
      `AQM_LISTEN ${listen} can be reached from other machines, so AQM_TOKEN_PUBLIC_KEY_FILE or AQM_TOKEN_JWKS_URL must name the public keys of your tokens; the development key is for loopback only`,
    );
  }

  const tls = tlsFilesOf(env, problems);
  const plaintext = oneOf('AQM_PLAINTEXT', 'loopback', ['loopback', 'anywhere']);
  if (!tls && plaintext === 'loopback' && host !== '' && !isLoopback(host)) {
    problems.push(
      `AQM_LISTEN ${listen} can be reached from other machines, so AQM_TLS_CERT_FILE and AQM_TLS_KEY_FILE are needed; AQM_PLAINTEXT=anywhere is for a service behind a proxy that ends TLS`,
    );
  }

  const maxWaitMs = integer('AQM_MAX_WAIT_MS', 500, 1, 600_000);
  // As many as a statement can have: no bound.
  const targets = integer('AQM_CLAIM_TARGETS', 1000, 1, 1000);

  const dataDir = resolve(env.AQM_DATA_DIR || '.aqm');
  const config: Config = {
    host,
    port: Number(port),
    workers,
    dataDir,
    fenceDir: env.AQM_FENCE_DIR ? resolve(env.AQM_FENCE_DIR) : join(dataDir, 'fence'),
    databaseUrl,
    readDatabaseUrl,
    tokenKeys,
    tokenRules: {
      issuer: env.AQM_TOKEN_ISSUER || undefined,
      audience: env.AQM_TOKEN_AUDIENCE || undefined,
      clockSkewSeconds: integer('AQM_TOKEN_CLOCK_SKEW', 30, 0, 600),
    },
    tls,
    limits: {
      isOn: areLimitsOn,
      redisUrl,
      rates: {
        // No single call may ask for more than could ever be there: 20 coins of a fetch, 100 of an upload.
        perRequester: rate('AQM_LIMIT_PER_REQUESTER', '1000/200', 20),
        perPair: rate('AQM_LIMIT_PER_PAIR', '60/60', 20),
        perTarget: rate('AQM_LIMIT_PER_TARGET', '600/200', 20),
        perUploader: rate('AQM_LIMIT_PER_UPLOADER', '2000/2000', 100),
        // A device with 10,000 coins makes 16 calls of one reconcile.
        perReconciler: rate('AQM_LIMIT_PER_RECONCILER', '600/200', 20, 'calls'),
      },
    },
    fetchGraceSeconds: integer('AQM_FETCH_GRACE', 3600, 1, 7 * DAY_S),
    stockLimit: integer('AQM_STOCK_LIMIT', 1000, 1, 1_000_000),
    maxCalls: integer('AQM_MAX_CALLS', 512, 1, 100_000),
    maxWaitMs,
    connections: {
      maxConnections: integer('AQM_MAX_CONNECTIONS', 16_000, 1, 1_000_000),
      maxPerAddress: integer('AQM_MAX_CONNECTIONS_PER_ADDRESS', 1000, 1, 1_000_000),
      maxStreams: integer('AQM_MAX_STREAMS', 256, 1, 100_000),
      maxHeaderBytes: integer('AQM_MAX_HEADER_BYTES', 16_384, 4096, 65_536),
      callTimeoutMs: integer('AQM_CALL_TIMEOUT_MS', 60_000, 100, DAY_MS),
      handshakeTimeoutMs: integer('AQM_HANDSHAKE_TIMEOUT_MS', 10_000, 100, DAY_MS),
      idleTimeoutMs: integer('AQM_IDLE_TIMEOUT_MS', 300_000, 100, DAY_MS),
      maxAgeMs: integer('AQM_MAX_CONNECTION_AGE_MS', 1_800_000, 100, DAY_MS),
      keepaliveMs: integer('AQM_KEEPALIVE_MS', 120_000, 100, DAY_MS),
      keepaliveTimeoutMs: integer('AQM_KEEPALIVE_TIMEOUT_MS', 20_000, 100, DAY_MS),
    },
    batching: {
      batch: integer('AQM_CLAIM_BATCH', 256, 1, 1000),
      // Where a statement serves one target, others must be served meanwhile.
      queues: integer('AQM_CLAIM_LANES', targets === 1 ? 16 : 1, 1, 1000),
      targets,
      maxWaitMs,
      stallTimeoutMs: integer('AQM_CLAIM_PATIENCE_MS', 250, 1, 600_000),
    },
    poolSize: integer('AQM_POOL_SIZE', 20, 1, 1000),
    pooler,
    preparedStatements: oneOf('AQM_PREPARED_STATEMENTS', pooler === 'none' ? 'on' : 'off', ['on', 'off']) === 'on',
    connectTimeoutMs: integer('AQM_CONNECT_TIMEOUT_MS', 1500, 10, 600_000),
    statementTimeoutMs: integer('AQM_STATEMENT_TIMEOUT_MS', 5000, 100, 600_000),
    lockTimeoutMs: integer('AQM_LOCK_TIMEOUT_MS', 1000, 10, 600_000),
    idleInTransactionTimeoutMs: integer('AQM_IDLE_IN_TRANSACTION_TIMEOUT_MS', 5000, 100, 600_000),
    drainTimeoutMs: integer('AQM_DRAIN_TIMEOUT_MS', 25_000, 0, 600_000),
    logLevel: oneOf('AQM_LOG_LEVEL', 'info', LOG_LEVELS),
    postgresPackage: env.AQM_POSTGRES_PACKAGE || undefined,
    migrationsDir: join(packageRoot(), 'migrations'),
  };
  if (problems.length > 0) throw new ConfigError(problems.join('\n'));
  return config;
}

function tokenKeysOf(env: NodeJS.ProcessEnv, problems: string[]): Config['tokenKeys'] {
  const { AQM_TOKEN_PUBLIC_KEY_FILE: file, AQM_TOKEN_JWKS_URL: url } = env;
  if (file && url) problems.push('AQM_TOKEN_PUBLIC_KEY_FILE and AQM_TOKEN_JWKS_URL exclude each other');
  if (url) {
    const { protocol, hostname, username, password } = URL.parse(url) ?? {};
    // Whoever can answer in place of the issuer can sign tokens for everybody.
    if (protocol !== 'https:' && !(protocol === 'http:' && isLoopback(hostname ?? ''))) {
      problems.push('AQM_TOKEN_JWKS_URL must begin with https://, or with http:// on loopback');
    }
    // Node's fetch sends none, and says so with the whole URL.
    if (username || password) problems.push('AQM_TOKEN_JWKS_URL must hold no user and no password');
    return { url };
  }
  return file ? { file: resolve(file) } : undefined;
}

/** What it is instead is not said, here as with the other URLs: it may hold a password. */
function redisUrlOf({ AQM_LIMITS_REDIS_URL: url }: NodeJS.ProcessEnv, problems: string[]): string | undefined {
  if (!url) return undefined;
  const { protocol = '' } = URL.parse(url) ?? {};
  if (!['redis:', 'rediss:'].includes(protocol) && !url.startsWith('/')) {
    problems.push('AQM_LIMITS_REDIS_URL must be redis://… or rediss://… (TLS), or the path of a Unix socket');
  }
  return url;
}

function tlsFilesOf(env: NodeJS.ProcessEnv, problems: string[]): TlsFiles | undefined {
  const { AQM_TLS_CERT_FILE: certificate, AQM_TLS_KEY_FILE: key, AQM_TLS_CLIENT_CA_FILE: clientCa } = env;
  if (certificate && key) return { certificate, key, clientCa: clientCa || undefined };
  if (certificate || key) problems.push('AQM_TLS_CERT_FILE and AQM_TLS_KEY_FILE need each other');
  else if (clientCa) problems.push('AQM_TLS_CLIENT_CA_FILE needs AQM_TLS_CERT_FILE and AQM_TLS_KEY_FILE');
  return undefined;
}

export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[(.*)\]$/, '$1');
  return bare === 'localhost' || bare === '::1' || (isIP(bare) === 4 && bare.startsWith('127.'));
}

/** The folder of package.json, from the compiled file as from the source. */
function packageRoot(): string {
  return __dirname.replace(/([\\/]dist)?[\\/]services[\\/]coin$/, '');
}
