import { createPublicKey, generateKeyPairSync, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { connect } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { SignJWT } from 'jose';
import { sql } from 'kysely';
import { BRONZE, mint } from '../../../../testkit/coins';
import { eventually } from '../../../../testkit/eventually';
import { freePorts } from '../../../../testkit/free-port';
import { compiled } from '../../../../testkit/root';
import { startService, type TestService } from '../../../../testkit/service';
import { type ServiceProcess, spawnProgram, spawnService } from '../../../../testkit/service-process';
import { asAdmin, createDatabase, type TestDatabase } from '../../../../testkit/test-database';
import { User } from '../../../../testkit/user';
import { checkDeployedFiles, Prometheus, readDeployed } from './prometheus';

// A test waits for several alerts, one after the other.
jest.setTimeout(900_000);

const HOUSEKEEPING = compiled('services/coin/test/telemetry/frequent-housekeeping');
const DEVICE = compiled('testkit/observed-device');

let service: TestService;
let prometheus: Prometheus;
let metricsPorts: number[];
let main: ServiceProcess;
let withoutRedis: ServiceProcess;
let withIssuer: ServiceProcess;
let issuer: Server;
let housekeeping: ServiceProcess;
let device: ServiceProcess;
let empty: TestDatabase;
let bob: User;
let carol: User;
/** Many users, because one may have few calls in progress. */
let crowd: User[];
let stranger: User;
let dave: User;

const metricsAt = (port: number | undefined) => ({
  OTEL_METRICS_EXPORTER: 'prometheus',
  OTEL_EXPORTER_PROMETHEUS_HOST: '127.0.0.1',
  OTEL_EXPORTER_PROMETHEUS_PORT: String(port),
  OTEL_METRIC_EXPORT_INTERVAL: '250',
});

beforeAll(async () => {
  service = await startService({}, { replicas: 1 });
  empty = await createDatabase('empty');
  // Only the housekeeping job clear-retired finds its table here; the others fail.
  await sql`CREATE TABLE database_opening (opening uuid, bytes_cleared boolean)`.execute(empty.db);
  await sql`
    CREATE TABLE database_job AS
    SELECT job, now() AS next_time, NULL::uuid AS holder, NULL::timestamptz AS lease_until
    FROM unnest(ARRAY['hard-delete-fetched', 'clear-retired']) AS job`.execute(empty.db);
  metricsPorts = await freePorts(5);
  const [first, second, third, fourth, fifth] = metricsPorts;
  // The tokens of the tests name no key.
  const keys = [{ ...createPublicKey(service.privateKey).export({ format: 'jwk' }), kid: 'a' }];
  issuer = createServer((_request, response) => response.end(JSON.stringify({ keys })));
  await once(issuer.listen(0, '127.0.0.1'), 'listening');
  const jwksUrl = `http://127.0.0.1:${(issuer.address() as AddressInfo).port}/jwks`;
  const env = {
    AQM_LIMITS: 'on',
    AQM_LIMIT_PER_PAIR: '20/20',
    AQM_POOL_SIZE: '2',
    AQM_MAX_CALLS: '8',
    AQM_CLAIM_BATCH: '16',
    // Calls fail after the timeouts of an operation, not after those of the other tests.
    AQM_CONNECT_TIMEOUT_MS: '1500',
    AQM_STATEMENT_TIMEOUT_MS: '5000',
    AQM_LOCK_TIMEOUT_MS: '1000',
  };
  [main, withoutRedis, housekeeping, device, withIssuer] = await Promise.all([
    spawnService(service, { ...env, ...metricsAt(first) }),
    spawnService(service, { ...metricsAt(second), AQM_LIMITS: 'on', AQM_LIMITS_REDIS_URL: 'redis://127.0.0.1:1' }),
    spawnProgram(HOUSEKEEPING, join(service.database.name), { ...empty.env, ...metricsAt(third) }),
    spawnProgram(DEVICE, join(service.database.name), metricsAt(fourth)),
    spawnService(service, { ...metricsAt(fifth), AQM_TOKEN_PUBLIC_KEY_FILE: '', AQM_TOKEN_JWKS_URL: jwksUrl }),
  ]);
  bob = await service.user({ address: main.address });
  carol = await service.user({ address: main.address });
  crowd = await Promise.all(Array.from({ length: 40 }, () => service.user({ address: main.address })));
  stranger = await service.user({ address: withoutRedis.address });
  dave = new User(withIssuer.address, randomUUID(), await unknownKeyToken());
  prometheus = await Prometheus.start(metricsPorts);
});

afterAll(async () => {
  await prometheus?.stop();
  dave?.close();
  issuer?.close();
  for (const process of [main, withoutRedis, housekeeping, device, withIssuer])
    if (process?.child.exitCode === null) await process.stop();
  await asAdmin(`ALTER DATABASE ${service.database.name} ALLOW_CONNECTIONS true`);
  await service.stop();
  await empty.drop();
});

/** Signs a token with a key that no issuer has. */
function unknownKeyToken(): Promise<string> {
  return new SignJWT()
    .setProtectedHeader({ alg: 'EdDSA', kid: 'unknown' })
    .setSubject(randomUUID())
    .setExpirationTime('1h')
    .sign(generateKeyPairSync('ed25519').privateKey);
}

/**
 * Repeats `work` until the signal aborts, by `concurrency` loops that pause after each run. Ignores
 * results and errors.
 */
async function repeat(signal: AbortSignal, work: () => Promise<unknown>, concurrency = 1, pauseMs = 50): Promise<void> {
  const loop = async () => {
    while (!signal.aborted) {
      await work().catch(() => {});
      await setTimeout(pauseMs);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, loop));
}

/** Locks the stock table until the signal aborts. */
async function holdStock(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
  await service.database.db.transaction().execute(async (holder) => {
    await sql`LOCK TABLE coin_stock IN ACCESS EXCLUSIVE MODE`.execute(holder);
    // An idle transaction would be ended by its timeout.
    const hold = async () => {
      while (!signal.aborted) await sql`SELECT pg_sleep(0.1)`.execute(holder);
    };
    await Promise.all([work(), hold()]);
  });
}

const fetchOf = (target: string, count = 1) => ({ targetUserId: target, coinCategory: BRONZE, count });
/**
 * These fire all the time here: the services' own jobs run once an hour only, or fail because
 * tables are missing.
 */
const ALWAYS_FIRING = ['AqmHousekeepingFails', 'AqmHousekeepingLate', 'AqmHousekeepingLateDaily', 'AqmStockEmpty'];

/** Actions that make each alert fire. The order matters: the last ones stop what others need. */
const PROVOCATIONS: readonly [alerts: readonly string[], provoke: (signal: AbortSignal) => Promise<unknown>][] = [
  [ALWAYS_FIRING, async () => {}],
  [['AqmFetchesEmpty'], (signal) => repeat(signal, () => bob.fetch(fetchOf(randomUUID())))],
  [['AqmLimitsUnavailable'], (signal) => repeat(signal, () => stranger.fetch(fetchOf(carol.id)))],
  [
    ['AqmTokenKeysUnavailable'],
    (signal) => {
      issuer.close();
      issuer.closeAllConnections();
      // An unknown key makes the service ask the issuer, which it otherwise does every ten minutes.
      return repeat(signal, () => dave.count());
    },
  ],
  [['AqmLimitsHit'], (signal) => repeat(signal, () => bob.fetch(fetchOf(carol.id, 20)), 3)],
  [
    ['AqmUploadConflicts'],
    (signal) =>
      repeat(signal, async () => {
        const [coin, other] = mint(2);
        await carol.upload([coin, other].flatMap((one) => (one && coin ? { ...one, keyId: coin.keyId } : [])));
      }),
  ],
  [
    ['AqmInternalErrors'],
    async (signal) => {
      await sql`ALTER TABLE coin ADD CONSTRAINT nothing CHECK (false) NOT VALID`.execute(service.database.db);
      await repeat(signal, () => carol.upload(mint(1)));
      await sql`ALTER TABLE coin DROP CONSTRAINT nothing`.execute(service.database.db);
    },
  ],
  [
    ['AqmCallsWithoutPlace'],
    (signal) =>
      repeat(signal, async () => {
        const session = connect(`http://${main.address}`);
        const headers = {
          ':method': 'POST',
          ':path': '/grpc.health.v1.Health/Watch',
          'content-type': 'application/grpc',
        };
        const watches = Array.from({ length: 20 }, () => session.request(headers).on('error', () => {}));
        await once(watches.at(-1) as (typeof watches)[number], 'close');
        session.destroy();
      }),
  ],
  [
    ['AqmOverloaded', 'AqmPoolExhausted', 'AqmCallsSlow', 'AqmCallsFail'],
    (signal) =>
      holdStock(signal, async () => {
        await Promise.all([
          // Refused calls return at once. The pause keeps them few enough that one call in a
          // hundred is a slow one.
          ...crowd.slice(0, 20).map((user) => repeat(signal, () => user.upload(mint(1)), 1, 500)),
          ...crowd.slice(20).map((user) => repeat(signal, () => user.fetch(fetchOf(randomUUID())), 1, 500)),
        ]);
      }),
  ],
  [
    ['AqmFenced'],
    async () => {
      const { db } = service.database;
      await carol.upload(mint(1));
      const { coins } = await carol.fetch(fetchOf(carol.id));
      // Simulates a restore: a recorded hand-out is missing, and a table has another file.
      await sql`DELETE FROM coin WHERE key_id = ${coins[0]?.keyId}::uuid`.execute(db);
      await sql`DELETE FROM coin_fetch`.execute(db);
      await sql`VACUUM FULL database_life`.execute(db);
    },
  ],
  [
    ['AqmDatabaseDown'],
    async () => {
      const { name } = service.database;
      await asAdmin(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`);
      await asAdmin(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${name}'`);
    },
  ],
  [['AqmLogLost'], async () => void withoutRedis.child.stderr?.destroy()],
  [['AqmServiceDown'], async () => void withoutRedis.child.kill('SIGKILL')],
];

test('promtool accepts the deployed files', () => checkDeployedFiles());

test('every alert has a provocation, and without any only the expected alerts fire', async () => {
  const rules = await prometheus.rules();
  expect(rules.map(({ name }) => name).sort()).toEqual(PROVOCATIONS.flatMap(([alerts]) => alerts).sort());
  // On a busy machine a late scrape may make another alert fire for a moment.
  let firing: string[] = [];
  await eventually('only the expected alerts fire', async () => {
    firing = [...(await prometheus.firing())].sort();
    return `${firing}` === `${ALWAYS_FIRING}`;
  }).catch(() => undefined);
  expect(firing).toEqual(ALWAYS_FIRING);
  const unhealthy = async () => (await prometheus.rules()).filter(({ health }) => health !== 'ok');
  await eventually('every rule was evaluated', async () => (await unhealthy()).length === 0);
});

test.each(PROVOCATIONS)('%j fires', async (alerts, provoke) => {
  const fires = async (alert: string) => (await prometheus.firing()).has(alert);
  for (const alert of alerts) {
    if (!ALWAYS_FIRING.includes(alert))
      await eventually(`${alert} does not fire yet`, async () => !(await fires(alert)));
  }
  const enough = new AbortController();
  const provoked = provoke(enough.signal);
  try {
    await Promise.all(alerts.map((alert) => eventually(`${alert} fires`, () => fires(alert))));
  } finally {
    enough.abort();
    await provoked;
  }
});

describe('the metrics', () => {
  /** Returns the metric names in an expression: names that are not functions, labels or strings. */
  function metricsIn(expression: string): string[] {
    const bare = expression
      .replaceAll(/\b(by|without|on|ignoring) *\([^)]*\)/g, ' ')
      .replaceAll(/\{[^}]*\}|\[[^\]]*\]|"[^"]*"/g, ' ');
    return [...bare.matchAll(/\b[a-z][a-z0-9_]*\b(?! *\()/g)].map(([name]) => name);
  }

  interface Dashboard {
    readonly uid: string;
    readonly panels: readonly {
      readonly id: number;
      readonly type: string;
      readonly title: string;
      readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
      readonly datasource?: { readonly uid: string };
      readonly targets?: readonly { readonly refId: string; readonly expr: string }[];
    }[];
  }
  const dashboard: Dashboard = JSON.parse(readDeployed('grafana/dashboard.json'));
  const expressions = () =>
    dashboard.panels.flatMap(({ targets = [], title }) => targets.map(({ expr }) => [title, expr] as const));

  test('of the dashboard and the alerts are all in a scrape', async () => {
    const texts = await Promise.all(
      metricsPorts.map((port) =>
        fetch(`http://127.0.0.1:${port}/metrics`).then(
          (r) => r.text(),
          () => '',
        ),
      ),
    );
    const scraped = new Set(texts.flatMap((text) => text.split('\n')).map((line) => line.split(/[ {]/)[0]));
    const wanted = [
      ...expressions().map(([, expression]) => expression),
      ...(await prometheus.rules()).map(({ query }) => query),
    ].flatMap(metricsIn);
    expect(new Set(wanted).size).toBeGreaterThan(25);
    // Prometheus itself adds `up`.
    expect([...new Set(wanted)].filter((name) => name !== 'up' && !scraped.has(name))).toEqual([]);
  });

  test('are queried by the dashboard with valid expressions', async () => {
    for (const [, expression] of expressions()) await prometheus.query(expression);
  });

  test('contain no ids', async () => {
    const text = await fetch(`http://127.0.0.1:${metricsPorts[0]}/metrics`).then((response) => response.text());
    expect(text).toContain('rpc_server_call_duration_bucket');
    expect(text).not.toMatch(/[0-9a-f]{8}-[0-9a-f]{4}-/i);
  });

  test('are shown in panels that Grafana accepts', () => {
    const { panels } = dashboard;
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    const source = readDeployed('grafana/provisioning/datasources/prometheus.yml');
    for (const { type, gridPos, datasource, targets = [] } of panels) {
      expect(['row', 'timeseries', 'stat']).toContain(type);
      expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24);
      if (type === 'row') continue;
      expect(source).toContain(`uid: ${datasource?.uid}\n`);
      expect(targets.length).toBeGreaterThan(0);
      expect(new Set(targets.map(({ refId }) => refId)).size).toBe(targets.length);
    }
  });
});
