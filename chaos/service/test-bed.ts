import { createPrivateKey } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { issueToken } from '../../services/coin/identity/development-key';
import { freePorts } from '../../testkit/free-port';
import { ManagedPostgres } from './managed-postgres';
import { ManagedService } from './managed-service';
import { TcpLink } from './tcp-link';
import { type SignedToken, TokenIssuer, type TokenOwner } from './token-issuer';
import { WatermarkDisk } from './watermark-disk';
import type { Timing } from './workload';

/** The services that the clients of a run call, and what can be broken there. */
export interface TestBed {
  /** One link in front of each service. Clients call through it. */
  readonly fronts: readonly TcpLink[];
  /** Only present if the run started the services itself: processes to kill, and links to the database. */
  readonly local?: {
    readonly services: readonly ManagedService[];
    /** One link between each service and the database. */
    readonly backs: readonly TcpLink[];
    readonly postgres: ManagedPostgres;
    /** The file system of the watermark; undefined where none can be mounted. */
    readonly disk: WatermarkDisk | undefined;
    readonly issuer: TokenIssuer;
    /** The metrics port of each service, with its status page. */
    readonly statusPorts: readonly number[];
  };
  readonly databaseUrl: string;
  /** Signs a new token with a key that every service knows. */
  sign(owner: TokenOwner): Promise<SignedToken>;
  /** Resolves when all calls in flight have finished, after which the tables do not change any more. */
  settle(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Starts services and a PostgreSQL in a temporary folder.
 * @param more further settings of all services
 */
export async function openLocalTestBed(
  services: number,
  dist: string,
  timing: Timing,
  more: NodeJS.ProcessEnv = {},
): Promise<TestBed> {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-chaos-'));
  const postgres = await ManagedPostgres.start(join(folder, 'postgres'));
  const disk = WatermarkDisk.mount(folder);
  const issuer = await TokenIssuer.start(services);
  const env = {
    AQM_DATA_DIR: folder,
    ...(disk && { AQM_FENCE_DIR: disk.folder }),
    AQM_TOKEN_PUBLIC_KEY_FILE: '',
    AQM_LIMITS: 'off',
    AQM_FETCH_GRACE: String(timing.graceMs / 1000),
    AQM_STATEMENT_TIMEOUT_MS: String(timing.statementTimeoutMs),
    AQM_LOCK_TIMEOUT_MS: String(timing.lockTimeoutMs),
    AQM_LOG_LEVEL: 'error',
    AQM_STOCK_LIMIT: '100000',
  };
  const statusPorts = await freePorts(services);
  const running: ManagedService[] = [];
  const backs: TcpLink[] = [];
  for (let index = 0; index < services; index++) {
    const back = await TcpLink.open(postgres.target);
    backs.push(back);
    const databaseUrl = `postgresql://postgres@127.0.0.1:${back.port}/aqm`;
    // One remembers answers for less long by itself. The longest grace in use counts.
    const grace = index === 1 ? { AQM_FETCH_GRACE: '1' } : {};
    const own = { ...grace, DATABASE_URL: databaseUrl, AQM_TOKEN_JWKS_URL: issuer.urlFor(index) };
    const metrics = {
      OTEL_METRICS_EXPORTER: 'prometheus',
      OTEL_EXPORTER_PROMETHEUS_HOST: '127.0.0.1',
      OTEL_EXPORTER_PROMETHEUS_PORT: String(statusPorts[index]),
    };
    running.push(new ManagedService(dist, await TcpLink.open(), { ...env, ...metrics, ...own, ...more }));
  }
  const close = async () => {
    await Promise.all(running.map((service) => service.close()));
    await Promise.all(backs.map((back) => back.close()));
    await postgres.close();
    await issuer.close();
    disk?.unmount();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await Promise.all(running.map((service) => service.start()));
  } catch (error) {
    await close();
    throw error;
  }
  return {
    fronts: running.map((service) => service.front),
    local: { services: running, backs, postgres, disk, issuer, statusPorts },
    databaseUrl: postgres.url,
    sign: (owner) => issuer.sign(owner, 'known'),
    settle: async () => {
      await Promise.all(running.map((service) => service.stop()));
    },
    close,
  };
}

/** A service that was deployed by others. */
export interface Deployment {
  readonly addresses: readonly string[];
  readonly databaseUrl: string;
  /** The path of a PEM with the private key that signs tokens for the services. */
  readonly tokenKeyFile: string;
  /** The longest time that a call may remain at work after its failure, in milliseconds. */
  readonly zombieMs: number;
}

const TOKEN_TTL_S = 24 * 3600;

/** Opens an existing deployment. Nothing is killed there; only the links of the clients fail. */
export async function openDeployment(deployment: Deployment): Promise<TestBed> {
  const fronts = await Promise.all(
    deployment.addresses.map((address) => {
      const [, host = '', port] = /^(.+):(\d+)$/.exec(address) ?? [];
      if (host === '') throw new Error(`"${address}" is not host:port`);
      return TcpLink.open({ host, port: Number(port) });
    }),
  );
  const key = createPrivateKey(readFileSync(deployment.tokenKeyFile));
  return {
    fronts,
    databaseUrl: deployment.databaseUrl,
    sign: async (owner) => ({
      token: await issueToken(key, { ...owner, ttlSeconds: TOKEN_TTL_S, now: new Date() }),
      key: undefined,
    }),
    settle: async () => {
      await setTimeout(deployment.zombieMs);
    },
    close: async () => {
      await Promise.all(fronts.map((front) => front.close()));
    },
  };
}
