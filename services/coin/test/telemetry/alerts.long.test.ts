import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { sql } from 'kysely';
import { BRONZE, mint } from '../../../../testkit/coins';
import { eventually } from '../../../../testkit/eventually';
import { freePorts } from '../../../../testkit/free-port';
import { compiled } from '../../../../testkit/root';
import { startService, type TestService } from '../../../../testkit/service';
import { type ServiceProcess, spawnProgram, spawnService } from '../../../../testkit/service-process';
import { asAdmin, createDatabase, type TestDatabase } from '../../../../testkit/test-database';
import type { User } from '../../../../testkit/user';
import { checkDeployedFiles, Prometheus, readDeployed } from './prometheus';

const HOUSEKEEPING = compiled('services/coin/test/telemetry/frequent-housekeeping');
const DEVICE = compiled('testkit/observed-device');

let service: TestService;
let prometheus: Prometheus;
let metricsPorts: number[];
let main: ServiceProcess;
let withoutRedis: ServiceProcess;
let housekeeping: ServiceProcess;
let device: ServiceProcess;
let empty: TestDatabase;
let bob: User;
let carol: User;
let stranger: User;

const metricsAt = (port: number | undefined) => ({
  OTEL_METRICS_EXPORTER: 'prometheus',
  OTEL_EXPORTER_PROMETHEUS_HOST: '127.0.0.1',
  OTEL_EXPORTER_PROMETHEUS_PORT: String(port),
  OTEL_METRIC_EXPORT_INTERVAL: '250',
});

beforeAll(async () => {
  service = await startService({}, { replicas: 1 });
  empty = await createDatabase('empty');
  // Of the jobs of hygiene one finds here what it needs.
  await sql`CREATE TABLE database_opening (opening uuid, bytes_cleared boolean)`.execute(empty.db);
  metricsPorts = await freePorts(4);
  const [first, second, third, fourth] = metricsPorts;
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
  [main, withoutRedis, housekeeping, device] = await Promise.all([
    spawnService(service, { ...env, ...metricsAt(first) }),
    spawnService(service, { ...metricsAt(second), AQM_LIMITS: 'on', AQM_LIMITS_REDIS_URL: 'redis://127.0.0.1:1' }),
    spawnProgram(HOUSEKEEPING, join(service.database.name), { ...empty.env, ...metricsAt(third) }),
    spawnProgram(DEVICE, join(service.database.name), metricsAt(fourth)),
  ]);
  bob = await service.user({ address: main.address });
  carol = await service.user({ address: main.address });
  stranger = await service.user({ address: withoutRedis.address });
  prometheus = await Prometheus.start(metricsPorts);
}, 60_000);

afterAll(async () => {
  await prometheus?.stop();
  for (const process of [main, withoutRedis, housekeeping, device])
    if (process?.child.exitCode === null) await process.stop();
  await asAdmin(`ALTER DATABASE ${service.database.name} ALLOW_CONNECTIONS true`);
  await service.stop();
  await empty.drop();
}, 60_000);

/** Does it again and again, with a pause after each time, by so many at a time. What comes back is nobody's business here. */
async function overAndOver(
  signal: AbortSignal,
  work: () => Promise<unknown>,
  atATime = 1,
  pauseMs = 50,
): Promise<void> {
  const one = async () => {
    while (!signal.aborted) {
      await work().catch(() => {});
      await setTimeout(pauseMs);
    }
  };
  await Promise.all(Array.from({ length: atATime }, one));
}

/** While the signal lasts, nobody gets at the stock. */
async function holdStock(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
  await service.database.db.transaction().execute(async (holder) => {
    await sql`LOCK TABLE coin_stock IN ACCESS EXCLUSIVE MODE`.execute(holder);
    // PostgreSQL ends a transaction that does nothing.
    const hold = async () => {
      while (!signal.aborted) await sql`SELECT pg_sleep(0.1)`.execute(holder);
    };
    await Promise.all([work(), hold()]);
  });
}

const fetchOf = (target: string, count = 1) => ({ targetUserId: target, coinCategory: BRONZE, count });
/** They come and go with the times of this test: the jobs of its services run once an hour, or fail for want of tables. */
const STANDING = ['AqmHousekeepingFails', 'AqmHousekeepingLate', 'AqmHousekeepingLateDaily', 'AqmStockEmpty'];

/** What makes alerts fire; in an order, for the last ones end what others need. */
const PROVOCATIONS: readonly [alerts: readonly string[], provoke: (signal: AbortSignal) => Promise<unknown>][] = [
  [STANDING, async () => {}],
  [['AqmFetchesEmpty'], (signal) => overAndOver(signal, () => bob.fetch(fetchOf(randomUUID())))],
  [['AqmLimitsUnavailable'], (signal) => overAndOver(signal, () => stranger.fetch(fetchOf(carol.id)))],
  [['AqmLimitsHit'], (signal) => overAndOver(signal, () => bob.fetch(fetchOf(carol.id, 20)), 3)],
  [
    ['AqmUploadConflicts'],
    (signal) =>
      overAndOver(signal, async () => {
        const [coin, other] = mint(2);
        await carol.upload([coin, other].flatMap((one) => (one && coin ? { ...one, keyId: coin.keyId } : [])));
      }),
  ],
  [
    ['AqmInternalErrors'],
    async (signal) => {
      await sql`ALTER TABLE coin ADD CONSTRAINT nothing CHECK (false) NOT VALID`.execute(service.database.db);
      await overAndOver(signal, () => carol.upload(mint(1)));
      await sql`ALTER TABLE coin DROP CONSTRAINT nothing`.execute(service.database.db);
    },
  ],
  [
    ['AqmOverloaded', 'AqmPoolExhausted', 'AqmCallsSlow', 'AqmCallsFail'],
    (signal) =>
      holdStock(signal, async () => {
        await Promise.all([
          // Calls that are refused at once come so seldom that one in a hundred is a slow one.
          overAndOver(signal, () => carol.upload(mint(1)), 20, 500),
          overAndOver(signal, () => bob.fetch(fetchOf(randomUUID())), 20, 500),
        ]);
      }),
  ],
  [
    ['AqmFenced'],
    async () => {
      const { db } = service.database;
      await carol.upload(mint(1));
      const { coins } = await carol.fetch(fetchOf(carol.id));
      // As after a restore: what was acknowledged is not known, and a table is another file.
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
  [['AqmServiceDown'], async () => void withoutRedis.child.kill('SIGKILL')],
];

test('promtool finds nothing wrong with what is deployed', () => checkDeployedFiles());

test('every alert has a provocation, and without one only those fire that the times of this test bring about', async () => {
  const rules = await prometheus.rules();
  expect(rules.map(({ name }) => name).sort()).toEqual(PROVOCATIONS.flatMap(([alerts]) => alerts).sort());
  await eventually('these fire', async () => (await prometheus.firing()).size >= STANDING.length);
  expect([...(await prometheus.firing())].sort()).toEqual(STANDING);
  expect((await prometheus.rules()).filter(({ health }) => health !== 'ok')).toEqual([]);
});

test.each(PROVOCATIONS)('%j fires', async (alerts, provoke) => {
  const fires = async (alert: string) => (await prometheus.firing()).has(alert);
  for (const alert of alerts) {
    if (!STANDING.includes(alert)) await eventually(`${alert} does not fire yet`, async () => !(await fires(alert)));
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
  /** Names in an expression: what is no function, no label and no text. */
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

  test('of the dashboard and of the alerts are all there in a scrape', async () => {
    const texts = await Promise.all(
      metricsPorts.map((port) =>
        fetch(`http://127.0.0.1:${port}/metrics`).then(
          (r) => r.text(),
          () => '',
        ),
      ),
    );
    const there = new Set(texts.flatMap((text) => text.split('\n')).map((line) => line.split(/[ {]/)[0]));
    const wanted = [
      ...expressions().map(([, expression]) => expression),
      ...(await prometheus.rules()).map(({ query }) => query),
    ].flatMap(metricsIn);
    expect(new Set(wanted).size).toBeGreaterThan(25);
    // Made by Prometheus.
    expect([...new Set(wanted)].filter((name) => name !== 'up' && !there.has(name))).toEqual([]);
  });

  test('are queried by the dashboard as Prometheus understands it', async () => {
    for (const [, expression] of expressions()) await prometheus.query(expression);
  });

  test('carry no id of anybody or anything', async () => {
    const text = await fetch(`http://127.0.0.1:${metricsPorts[0]}/metrics`).then((response) => response.text());
    expect(text).toContain('rpc_server_call_duration_bucket');
    expect(text).not.toMatch(/[0-9a-f]{8}-[0-9a-f]{4}-/i);
  });

  test('a panel is as Grafana wants it', () => {
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
