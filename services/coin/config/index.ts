import { join } from 'node:path';
import { ConfigError } from './config-error';
import { packageRoot } from './package-root';
import { readSettings } from './read-settings';
import type { SettingValues } from './settings';
import { databaseUrlProblems, isLoopback } from './urls';

export type { Rate } from './formats';
export { ConfigError };

/** Typed configuration of one process, parsed from environment variables; see docs/configuration.md. */
export type Config = Immutable<ReturnType<typeof toConfig>>;

type Immutable<Value> = Value extends object ? { readonly [Key in keyof Value]: Immutable<Value[Key]> } : Value;

/** Limits what a connection may do and how many there may be; see transport/. */
export type ConnectionLimits = Config['connections'];

/** Limits how many coins callers may fetch and upload, and how often they may reconcile; see limits/coin-limits.ts. */
export type CoinRates = Config['limits']['rates'];

/** Names the PEM files of TLS; see transport/certificates.ts. */
export type TlsFiles = NonNullable<Config['tls']>;

/** Says what a token must contain besides the caller's id. */
export type TokenRules = Config['tokenRules'];

/** Limits of the transport, times in milliseconds. Each bounds what one peer can cost, and none depends on the size of an installation. */
const TRANSPORT = {
  /** Calls at the same time on one connection. Clients that respect HTTP/2 queue further ones; others are refused. */
  maxStreams: 256,
  /** Size of the headers of one call, the token included, as HTTP/2 counts them (32 bytes more for each). */
  maxHeaderBytes: 16_384,
  /** Upper bound for one call, from first request byte to last response byte read, regardless of the client's deadline. */
  callTimeoutMs: 60_000,
  /** A connection that has not finished its TLS handshake after this time is cut. */
  handshakeTimeoutMs: 10_000,
  /** A connection is closed at this age, so that new replicas get their share. Its calls are answered first. */
  maxAgeMs: 1_800_000,
  /** Interval of HTTP/2 keepalive pings. */
  keepaliveMs: 120_000,
  /** Timeout for the answer to a keepalive ping. */
  keepaliveTimeoutMs: 20_000,
};

/** PostgreSQL ends a connection that has a transaction open and is idle, such as that of a stopped service, after this time. */
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 5000;

/** Allowed difference between the clocks of issuer and service, in seconds. */
const TOKEN_CLOCK_SKEW_S = 30;

/** A batched claim that takes longer no longer delays the next one, in milliseconds; see store/claim/batch-queue.ts. */
const CLAIM_STALL_TIMEOUT_MS = 250;
/** A statement may serve this many users: as many as it can serve fetches, which is no bound. */
const TARGETS_OF_SHARED_TABLES = 1000;
/** Where a statement serves one user only, others must be served meanwhile. */
const QUEUES_OF_DISTRIBUTED_TABLES = 16;

/**
 * Reads and checks all settings.
 * @throws ConfigError with one line for every problem
 */
export function readConfig(env: NodeJS.ProcessEnv): Config {
  const problems: string[] = [];
  const values = readSettings(env, problems);
  problems.push(...contradictions(values));
  if (problems.length > 0) throw new ConfigError(problems.join('\n'));
  // Without a problem, every setting has its value.
  return toConfig(values as SettingValues, env.NODE_ENV === 'production');
}

/** Explains which accepted settings contradict each other. A rule about a setting that was not accepted is left out. */
function contradictions(values: Partial<SettingValues>): string[] {
  const { databaseUrl, readDatabaseUrl, tlsCertificate, tlsKey, tlsClientCa, tokenKeyFile, tokenJwksUrl } = values;
  const { workers = 1, areLimitsOn, limitsRedisUrl, pooler, plaintext, listen } = values;
  const hasKeys = Boolean(tokenKeyFile || tokenJwksUrl) || !('tokenJwksUrl' in values);
  const isPublic = listen !== undefined && !isLoopback(listen.host);
  const address = `${listen?.host}:${listen?.port}`;
  const hasDatabase = databaseUrl !== undefined || !('databaseUrl' in values);
  const { username, password } = URL.parse(tokenJwksUrl ?? '') ?? {};
  const rules: [isBroken: boolean, sentence: string][] = [
    [
      readDatabaseUrl !== undefined && !hasDatabase,
      'AQM_READ_DATABASE_URL needs DATABASE_URL, the URL of the database that it is a replica of',
    ],
    [pooler !== undefined && pooler !== 'none' && !hasDatabase, 'AQM_POOLER needs DATABASE_URL, the URL of the pooler'],
    [
      workers > 1 && areLimitsOn === true && limitsRedisUrl === undefined && 'limitsRedisUrl' in values,
      `AQM_WORKERS=${workers} needs AQM_LIMITS_REDIS_URL, a Redis through which the workers share their rate limits; without it each caller would get ${workers} times the limit (AQM_LIMITS=off is for load tests)`,
    ],
    [
      Boolean(tokenKeyFile && tokenJwksUrl),
      'AQM_TOKEN_PUBLIC_KEY_FILE and AQM_TOKEN_JWKS_URL exclude each other; set one of them',
    ],
    // Node's fetch refuses such a URL with an error that repeats it.
    [Boolean(username || password), 'AQM_TOKEN_JWKS_URL must hold no user and no password'],
    [
      isPublic && !hasKeys,
      `AQM_LISTEN ${address} can be reached from other machines, so AQM_TOKEN_PUBLIC_KEY_FILE or AQM_TOKEN_JWKS_URL must name the public keys of your tokens; the development key is for loopback only`,
    ],
    [
      Boolean(tlsCertificate) !== Boolean(tlsKey),
      'AQM_TLS_CERT_FILE and AQM_TLS_KEY_FILE need each other; set both or neither',
    ],
    [
      Boolean(tlsClientCa && !tlsCertificate && !tlsKey),
      'AQM_TLS_CLIENT_CA_FILE needs AQM_TLS_CERT_FILE and AQM_TLS_KEY_FILE',
    ],
    [
      isPublic && plaintext === 'loopback' && !(tlsCertificate && tlsKey),
      `AQM_LISTEN ${address} can be reached from other machines, so AQM_TLS_CERT_FILE and AQM_TLS_KEY_FILE are needed; AQM_PLAINTEXT=anywhere is for a service behind a proxy that ends TLS`,
    ],
  ];
  return [
    ...(databaseUrl === undefined ? [] : databaseUrlProblems('DATABASE_URL', databaseUrl)),
    ...(readDatabaseUrl === undefined ? [] : databaseUrlProblems('AQM_READ_DATABASE_URL', readDatabaseUrl)),
    ...rules.filter(([isBroken]) => isBroken).map(([, sentence]) => sentence),
  ];
}

/** Arranges the settings by the parts that use them, with the constants that were never worth a setting. */
function toConfig(values: SettingValues, isProduction: boolean) {
  const { isDistributed, maxWaitMs, pooler } = values;
  return {
    host: values.listen.host,
    /** Port 0 picks a free one. */
    port: values.listen.port,
    /** The number of processes that share the address; see workers.ts. */
    workers: values.workers,
    dataDir: values.dataDir,
    /** The folder of the restore fence's watermark; the same for all services of one database. */
    fenceDir: values.fenceDir,
    /** undefined: the service runs the embedded PostgreSQL in dataDir. */
    databaseUrl: values.databaseUrl,
    /** With NODE_ENV=production, no embedded PostgreSQL is created. */
    isProduction,
    /** A replica that counts coins. undefined: the database counts them. */
    readDatabaseUrl: values.readDatabaseUrl,
    /** The source of the public keys that verify tokens. undefined: the development key. */
    tokenKeys: tokenKeysOf(values),
    tokenRules: {
      /** The required `iss`; undefined: not checked. */
      issuer: values.tokenIssuer,
      /** The required `aud`, or one of them; undefined: not checked. */
      audience: values.tokenAudience,
      /** Allowed difference between the clocks of issuer and service, in seconds. */
      clockSkewSeconds: TOKEN_CLOCK_SKEW_S,
    },
    /** undefined: connections are in plain text. */
    tls: tlsFilesOf(values),
    limits: {
      isOn: values.areLimitsOn,
      /** The Redis through which replicas share their rate limits; undefined: each has its own. */
      redisUrl: values.limitsRedisUrl,
      rates: {
        /** Coins fetched by one requester, from all targets. */
        perRequester: values.perRequester,
        /** Coins of one category fetched by one requester from one target. */
        perPair: values.perPair,
        /** Coins fetched from one target by all requesters. */
        perTarget: values.perTarget,
        /** Coins uploaded by one user. */
        perUploader: values.perUploader,
        /** ReconcileCoins calls of one user: each reads and may retire up to 1000 coins. */
        perReconciler: values.perReconciler,
        /** Calls of one user, of all methods, in this process. */
        perCaller: values.perCaller,
      },
    },
    fetchGraceSeconds: values.fetchGraceSeconds,
    stockLimit: values.stockLimit,
    maxDevices: values.maxDevices,
    /** The largest number of calls in progress; further ones are refused at once. */
    maxCalls: values.maxCalls,
    /** While a call has waited longer for a connection to PostgreSQL, new ones are refused at once. In milliseconds. */
    maxWaitMs,
    /** True to serve gRPC server reflection. */
    hasReflection: values.hasReflection,
    hasStatusPage: values.hasStatusPage,
    connections: {
      ...TRANSPORT,
      maxConnections: values.maxConnections,
      maxPerAddress: values.maxPerAddress,
      idleTimeoutMs: values.idleTimeoutMs,
    },
    /** Rules by which waiting fetches share statements; see store/claim/fetch-coins.ts. */
    batching: {
      batch: values.claimBatch,
      queues: isDistributed ? QUEUES_OF_DISTRIBUTED_TABLES : 1,
      targets: isDistributed ? 1 : TARGETS_OF_SHARED_TABLES,
      maxWaitMs,
      stallTimeoutMs: CLAIM_STALL_TIMEOUT_MS,
    },
    poolSize: values.poolSize,
    /** transaction: connections to PostgreSQL keep nothing from one transaction to the next. */
    pooler: pooler === 'none' ? ('none' as const) : ('transaction' as const),
    preparedStatements: pooler !== 'transaction',
    connectTimeoutMs: values.connectTimeoutMs,
    statementTimeoutMs: values.statementTimeoutMs,
    lockTimeoutMs: values.lockTimeoutMs,
    idleInTransactionTimeoutMs: IDLE_IN_TRANSACTION_TIMEOUT_MS,
    drainTimeoutMs: values.drainTimeoutMs,
    /** 0: a start does not wait for what does not answer. */
    startTimeoutMs: values.startTimeoutMs,
    logLevel: values.logLevel,
    /** The npm package of the embedded PostgreSQL's programs; undefined: the platform's default. */
    postgresPackage: values.postgresPackage,
    migrationsDir: join(packageRoot(), 'migrations'),
  };
}

function tokenKeysOf({ tokenKeyFile, tokenJwksUrl }: SettingValues): { file: string } | { url: string } | undefined {
  if (tokenJwksUrl !== undefined) return { url: tokenJwksUrl };
  return tokenKeyFile === undefined ? undefined : { file: tokenKeyFile };
}

function tlsFilesOf({ tlsCertificate: certificate, tlsKey: key, tlsClientCa: clientCa }: SettingValues) {
  return certificate !== undefined && key !== undefined ? { certificate, key, clientCa } : undefined;
}
