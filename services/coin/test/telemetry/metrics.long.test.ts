import { once } from 'node:events';
import { createServer } from 'node:http';
import { Client, credentials } from '@grpc/grpc-js';
import { sql } from 'kysely';
import { COIN_CATEGORIES } from '../../../../gen/aqm/coin/v1/coin_categories';
import { BRONZE, GOLD, mint } from '../../../../testkit/coins';
import { eventually } from '../../../../testkit/eventually';
import { freePorts } from '../../../../testkit/free-port';
import { compiled } from '../../../../testkit/root';
import { startService, type TestService } from '../../../../testkit/service';
import { type ServiceProcess, spawnProgram, spawnService } from '../../../../testkit/service-process';
import type { User } from '../../../../testkit/user';
import { readStockLevels } from '../../store/stock-levels';

const DEVICE = compiled('testkit/observed-device');

let service: TestService;
let running: ServiceProcess | undefined;
let port: number;

beforeEach(async () => {
  service = await startService({}, { replicas: 1 });
  // The port after it is also free, for a second worker.
  [port = 0] = await freePorts(2);
});
afterEach(async () => {
  if (running?.child.exitCode === null) await running.stop();
  running = undefined;
  await service.stop();
});

const env = (at: number) => ({
  OTEL_METRICS_EXPORTER: 'prometheus',
  OTEL_EXPORTER_PROMETHEUS_HOST: '127.0.0.1',
  OTEL_EXPORTER_PROMETHEUS_PORT: String(at),
  OTEL_METRIC_EXPORT_INTERVAL: '100',
});

/**
 * Returns the non-zero samples of one scrape by name and label values, such as `aqm_fetches_total
 * GOLD whole`.
 */
async function scrape(at = port, timeoutMs = 60_000): Promise<Map<string, number>> {
  // A connection that is opened while a worker dies may never be answered.
  const response = await fetch(`http://127.0.0.1:${at}/metrics`, { signal: AbortSignal.timeout(timeoutMs) });
  const found = new Map<string, number>();
  for (const line of (await response.text()).split('\n')) {
    const [, name = '', labels = '', value = ''] = /^(\w+)\{(.*)\} (\S+)$/.exec(line) ?? [];
    const values = [...labels.matchAll(/(\w+)="([^"]*)"/g)].filter(
      ([, label]) => !/^otel_|_pool_name|_system_name/.test(label ?? ''),
    );
    if (Number(value) !== 0) found.set([name, ...values.map(([, , text]) => text)].join(' '), Number(value));
  }
  return found;
}

const only = (samples: ReadonlyMap<string, number>, prefix: string) =>
  Object.fromEntries([...samples].filter(([name]) => name.startsWith(prefix)));

test('fetches, coins, uploads, refusals and rate limits are counted by category and outcome', async () => {
  running = await spawnService(service, { ...env(port), AQM_LIMITS: 'on', AQM_LIMIT_PER_PAIR: '20/20' });
  const { address } = running;
  const [bob, alice, carol] = (await Promise.all([1, 2, 3].map(() => service.user({ address })))) as [User, User, User];
  const [gold, ...bronze] = [...mint(1, GOLD), ...mint(6)];
  await bob.upload([...(gold ? [gold] : []), ...bronze]);
  await bob.upload(bronze.slice(0, 2));
  const ask = { targetUserId: bob.id, coinCategory: BRONZE, count: 1, requestId: crypto.randomUUID() };
  await alice.fetch(ask);
  await alice.fetch(ask);
  await alice.fetch({ targetUserId: bob.id, coinCategory: GOLD, count: 3, allowLowerCategories: true });
  await alice.fetch({ targetUserId: bob.id, coinCategory: GOLD, count: 1 });
  await alice.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 20 }).catch(() => {});
  await carol.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 20 });
  await alice.fetch({ targetUserId: 'not a UUID', coinCategory: BRONZE, count: 1 }).catch(() => {});
  await bob.batchFetch([
    { ...ask, requestId: '' },
    { ...ask, targetUserId: alice.id },
  ]);
  const samples = await scrape();
  expect(only(samples, 'aqm_fetches')).toEqual({
    'aqm_fetches_total BRONZE whole': 1,
    'aqm_fetches_total BRONZE repeat': 1,
    'aqm_fetches_total BRONZE short': 1,
    'aqm_fetches_total BRONZE empty': 2,
    'aqm_fetches_total GOLD whole': 1,
    'aqm_fetches_total GOLD empty': 1,
  });
  expect(only(samples, 'aqm_coins')).toEqual({
    'aqm_coins_fetched_total GOLD': 1,
    'aqm_coins_fetched_total BRONZE': 6,
    'aqm_coins_uploaded_total GOLD inserted': 1,
    'aqm_coins_uploaded_total BRONZE inserted': 6,
    'aqm_coins_uploaded_total BRONZE already_present': 2,
  });
  expect(only(samples, 'aqm_limits')).toEqual({ 'aqm_limits_hit_total fetch': 1 });
  expect(only(samples, 'aqm_calls_refused')).toEqual({
    'aqm_calls_refused_total INVALID_FIELD': 1,
    'aqm_calls_refused_total RATE_LIMITED': 1,
  });
  expect(only(samples, 'rpc_server_call_duration_count')).toEqual({
    'rpc_server_call_duration_count aqm.coin.v1.CoinService/UploadCoins OK': 2,
    'rpc_server_call_duration_count aqm.coin.v1.CoinService/FetchCoins OK': 5,
    'rpc_server_call_duration_count aqm.coin.v1.CoinService/FetchCoins RESOURCE_EXHAUSTED': 1,
    'rpc_server_call_duration_count aqm.coin.v1.CoinService/FetchCoins INVALID_ARGUMENT': 1,
    'rpc_server_call_duration_count aqm.coin.v1.CoinService/BatchFetchCoins OK': 1,
  });
});

test('devices are counted, and no label names a device, a user or a coin', async () => {
  running = await spawnService(service, { ...env(port), AQM_MAX_DEVICES: '2' });
  const [bob, alice] = await Promise.all([1, 2].map(() => service.user({ address: running?.address ?? '' })));
  if (!bob || !alice) throw new Error('no users');
  const [phone, laptop, tablet] = [crypto.randomUUID(), crypto.randomUUID(), crypto.randomUUID()];
  const coins = mint(2);
  await bob.upload(coins, '', phone);
  await bob.upload(mint(1), '', laptop);
  await bob.upload(mint(1), '', tablet).catch(() => {});
  const request = { targetUserId: bob.id, coinCategory: BRONZE, count: 1, requestId: crypto.randomUUID() };
  await alice.fetchDevices([request]);
  await bob.removeDevice(phone);
  await bob.upload(mint(1), '', phone).catch(() => {});
  const response = await fetch(`http://127.0.0.1:${port}/metrics`, { signal: AbortSignal.timeout(60_000) });
  const text = await response.text();
  for (const id of [phone, laptop, tablet, bob.id, alice.id, ...coins.map(({ keyId }) => keyId)]) {
    expect(text).not.toContain(id);
  }
  const samples = await scrape();
  expect(only(samples, 'aqm_devices_per_user_')).toMatchObject({
    aqm_devices_per_user_count: 1,
    aqm_devices_per_user_sum: 2,
  });
  expect(only(samples, 'aqm_calls_refused')).toEqual({
    'aqm_calls_refused_total DEVICE_REMOVED': 1,
    'aqm_calls_refused_total TOO_MANY_DEVICES': 1,
  });
  expect(only(samples, 'aqm_coins_retired')).toEqual({ 'aqm_coins_retired_total BRONZE': 1 });
});

test('gauges show stock, pool, connections and fence, and coins removed by an admin are counted', async () => {
  running = await spawnService(service, { ...env(port), AQM_POOL_SIZE: '3' });
  const bob = await service.user({ address: running.address });
  const admin = await service.user({ address: running.address, isAdmin: true });
  await bob.upload([...mint(5), ...mint(2, GOLD)]);
  await service.age('coin_stock', 'upload_time', '40 days');
  await eventually('the stock is known', async () => (await scrape()).get('aqm_stock_coins BRONZE') === 5);
  const before = await scrape();
  expect(only(before, 'aqm_stock')).toEqual({ 'aqm_stock_coins GOLD': 2, 'aqm_stock_coins BRONZE': 5 });
  expect(before.get('db_client_connection_max')).toBe(3);
  expect(before.get('aqm_connections')).toBeGreaterThan(0);
  expect(before.get('aqm_database_up')).toBe(1);
  expect(before.has('aqm_fence_up')).toBe(false);
  expect(before.get('aqm_table_size coin')).toBeGreaterThan(8192);
  expect(await admin.purgeStale(30)).toBe(7);
  expect(only(await scrape(), 'aqm_coins_removed')).toEqual({ 'aqm_coins_removed_total purge-stale': 7 });
  await eventually('the stock is empty', async () => !(await scrape()).has('aqm_stock_coins BRONZE'));
});

test('no label has an id', async () => {
  running = await spawnService(service, env(port));
  const bob = await service.user({ address: running.address });
  await bob.upload(mint(1));
  await bob.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 1, requestId: crypto.randomUUID() });
  const text = await fetch(`http://127.0.0.1:${port}/metrics`).then((response) => response.text());
  expect(text).toContain('rpc_server_call_duration_bucket');
  expect(text).not.toMatch(/[0-9a-f]{8}-[0-9a-f]{4}-/i);
});

test('methods of other services and paths made up by callers share one label', async () => {
  running = await spawnService(service, env(port));
  const client = new Client(running.address, credentials.createInsecure());
  const nothing = () => Buffer.alloc(0);
  for (const path of ['/grpc.health.v1.Health/Check', '/aqm.coin.v1.CoinService/made-up']) {
    await new Promise((resolve) => client.makeUnaryRequest(path, nothing, () => 0, {}, resolve));
  }
  client.close();
  const names = [...(await scrape()).keys()].filter((name) => name.startsWith('rpc_server_call_duration_count'));
  expect(names).toEqual(['rpc_server_call_duration_count _OTHER OK']);
});

test('a metrics port in use is logged as a warning, and the service still serves', async () => {
  const other = createServer().listen(port, '127.0.0.1');
  await once(other, 'listening');
  running = await spawnService(service, env(port));
  const bob = await service.user({ address: running.address });
  await bob.upload(mint(1));
  await eventually('the warning is logged', () => running?.log().includes('EADDRINUSE'));
  expect(running.log()).toContain('"level":40');
  expect(await running.stop()).toBe(0);
  other.close();
});

test('each of several workers has its own port, from the configured one on, also after a restart', async () => {
  const WORKERS = 2;
  const started = await spawnService(service, { ...env(port), AQM_WORKERS: `${WORKERS}`, AQM_LOG_LEVEL: 'debug' });
  running = started;
  const users = await Promise.all(Array.from({ length: 4 }, () => service.user({ address: started.address })));
  for (const user of users) await user.count();
  const counts = async (at: number, timeoutMs?: number) =>
    (await scrape(at, timeoutMs)).get('rpc_server_call_duration_count aqm.coin.v1.CoinService/GetInventoryCount OK');
  expect([await counts(port), await counts(port + 1)]).toEqual([2, 2]);
  const [, worker = '0'] = /"worker":(\d+)/.exec(started.log()) ?? [];
  process.kill(Number(worker), 'SIGKILL');
  await eventually('both ports respond, one with new counters', async () => {
    const both = await Promise.all([port, port + 1].map((at) => counts(at, 5_000).catch(() => -1)));
    return both.includes(2) && both.includes(undefined);
  });
});

test('a large stock is estimated from a sample', async () => {
  const { db } = service.database;
  await sql`
INSERT INTO coin_stock (user_id, coin_category, upload_order, key_id, expire_time)
SELECT gen_random_uuid(), CASE WHEN n % 4 = 0 THEN 1 ELSE 3 END, n, gen_random_uuid(), now() + interval '20 days'
FROM generate_series(1, 400000) n`.execute(db);
  const levels = await readStockLevels(
    db,
    COIN_CATEGORIES.map(({ name }) => name),
  );
  const [gold = 0, silver, bronze = 0] = [...levels.coins.values()];
  expect(silver).toBe(0);
  // The bounds are five standard deviations: the sample contains whole pages.
  expect(Math.abs(gold - 100_000)).toBeLessThan(9000);
  expect(Math.abs(bronze - 300_000)).toBeLessThan(27_000);
});

test('a device reports its operations by outcome and its gauges, without ids', async () => {
  running = await spawnProgram(DEVICE, service.database.name, env(port));
  const samples = await scrape();
  expect(only(samples, 'aqm_device_operation_duration_count')).toEqual({
    'aqm_device_operation_duration_count sqlite vault.store_key done': 2,
    'aqm_device_operation_duration_count sqlite vault.burn_key done': 1,
    'aqm_device_operation_duration_count sqlite vault.burn_key refused': 1,
    'aqm_device_operation_duration_count sqlite vault.fetch_key none': 1,
    'aqm_device_operation_duration_count sqlite vault.fetch_key InvalidArgumentError': 1,
    'aqm_device_operation_duration_count sqlite inventory.set_priority done': 1,
    'aqm_device_operation_duration_count sqlite inventory.store_key done': 1,
    'aqm_device_operation_duration_count sqlite inventory.select_coin none': 1,
  });
  expect(only(samples, 'aqm_device_vault')).toEqual({ 'aqm_device_vault_keys sqlite BRONZE': 1 });
  expect(only(samples, 'aqm_device_inventory')).toEqual({ 'aqm_device_inventory_coins sqlite BRONZE': 1 });
});
