import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { CoinServiceClient } from '../../../../gen/aqm/coin/v1/coin_service';
import { bearer, call } from '../../../../testkit/call';
import { BRONZE, ids, mint } from '../../../../testkit/coins';
import { eventually } from '../../../../testkit/eventually';
import { freePorts } from '../../../../testkit/free-port';
import { startTraceCollector } from '../../../../testkit/otlp-collector';
import { compiled, ROOT } from '../../../../testkit/root';
import { startService, type TestService } from '../../../../testkit/service';
import { type ServiceProcess, spawnService } from '../../../../testkit/service-process';
import { asAdmin } from '../../../../testkit/test-database';
import { IS_FULL_RUN } from '../../../../testkit/tier';
import { type TraceCollector, type TraceSpan, tracesTo } from '../../../../testkit/trace-collector';
import { signalsOf } from '../../telemetry/start-telemetry';

const DEMO = compiled('demo/main');
const ANSWERED = 'rpc.response.status_code';

/** Matches UUIDs, tokens, and anything long enough to be key material. */
const SECRET = /[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}|eyJ[\w-]+\.|[\w+/=-]{40}/i;
/** Attributes that were reviewed for what they reveal. A span must not have any other. */
const ATTRIBUTES = [
  'aqm.backend',
  'aqm.batch.size',
  'aqm.call_id',
  'aqm.coins',
  'aqm.connection.wait_ms',
  'aqm.items',
  'aqm.items.inserted',
  'aqm.items.whole',
  'aqm.items.short',
  'aqm.items.empty',
  'aqm.items.repeat',
  'aqm.items.in_stock',
  'aqm.operation',
  'aqm.outcome',
  'aqm.reason',
  'db.operation.name',
  'db.query.summary',
  'db.response.returned_rows',
  'db.system.name',
  'error.type',
  'rpc.method',
  'rpc.response.status_code',
  'rpc.system.name',
  'server.address',
];
/** Attributes that Jaeger adds. */
const JAEGER_ATTRIBUTES = ['otel.library.name', 'span.kind', 'internal.span.format'];

let collector: TraceCollector;
beforeAll(async () => {
  collector = await startTraceCollector();
});
afterAll(() => collector.stop());

/** Returns the counts of items in a span, as numbers: OTLP in JSON has them as texts. */
const itemsOf = ({ attributes }: TraceSpan) =>
  Object.fromEntries(
    Object.entries(attributes)
      .filter(([key]) => key.startsWith('aqm.items'))
      .map(([key, value]) => [key, Number(value)]),
  );

const attributesOf = (spans: readonly TraceSpan[]) =>
  spans.flatMap(({ attributes }) => Object.entries(attributes)).filter(([key]) => !JAEGER_ATTRIBUTES.includes(key));

function expectNoSecrets(spans: readonly TraceSpan[], allowed = ATTRIBUTES): void {
  const attributes = attributesOf(spans);
  expect([...new Set(attributes.map(([key]) => key))].filter((key) => !allowed.includes(key))).toEqual([]);
  const texts = [...attributes.map(([, value]) => String(value)), ...spans.map(({ name }) => name)];
  expect(texts.filter((text) => SECRET.test(text.replaceAll('aqm.coin.v1.', '')))).toEqual([]);
}

describe('the traces of the demo, from devices through the service to PostgreSQL', () => {
  let traces: TraceSpan[][];

  beforeAll(async () => {
    const env = { ...process.env, ...collector.env, AQM_CLAIM_BATCH: '256' };
    const demo = spawn(process.execPath, [DEMO, '--json'], { env, stdio: 'ignore' });
    const [code] = await once(demo, 'exit');
    expect(code).toBe(0);
    traces = await collector.traces('aqm-demo');
  }, 240_000);

  const traceOf = (flow: string) => traces.filter((trace) => trace.some(({ name }) => name === flow));
  const within = (trace: readonly TraceSpan[], parent: TraceSpan | undefined) =>
    trace.filter((span) => span.parent === parent?.spanId);

  test.each([
    ['publish_coins', 'UploadCoins', 'INSERT coin_stock'],
    ['top_up', 'BatchFetchCoins', 'DELETE coin_stock'],
    ['fetch_for_devices', 'FetchDeviceCoins', 'DELETE coin_stock'],
  ])('connect %s with its call %s and the statements of that call', (flow, method, does) => {
    // The lost laptop's last upload is refused.
    const found = traceOf(flow).filter((trace) => trace.every(({ attributes }) => !('error.type' in attributes)));
    expect(found.length).toBeGreaterThan(0);
    for (const trace of found) {
      const [root, ...others] = trace.filter(({ parent }) => parent === undefined);
      expect(root).toMatchObject({ name: flow, service: 'aqm-demo', attributes: { 'aqm.backend': 'sqlite' } });
      expect(others).toEqual([]);
      const sent = within(trace, root).find(({ name }) => name === `aqm.coin.v1.CoinService/${method}`);
      expect(sent).toMatchObject({ service: 'aqm-demo', attributes: { 'span.kind': 'client', [ANSWERED]: 'OK' } });
      const [served, ...servedAlso] = within(trace, sent);
      expect(served).toMatchObject({ name: sent?.name, service: 'aqm-coin', attributes: { 'span.kind': 'server' } });
      expect(servedAlso).toEqual([]);
      const statements = within(trace, served).filter(({ attributes }) => 'db.system.name' in attributes);
      expect(statements.map(({ name }) => name).join(' ')).toContain(does);
      for (const { attributes } of statements) expect(attributes['db.system.name']).toBe('postgresql');
    }
  });

  test('show how a fetch waits for its batch, linked with the statement that served it', () => {
    for (const trace of traceOf('top_up')) {
      const waits = trace.filter(({ name }) => name === 'wait for a shared statement');
      expect(waits.length).toBeGreaterThan(0);
      for (const { parent, links } of waits) {
        const statement = trace.find(({ spanId }) => links.includes(spanId));
        expect(statement?.parent).toBe(parent);
        expect(statement?.links).toEqual([parent]);
      }
    }
  });

  test('contain a span for every operation of vault and inventory', () => {
    const names = new Set(traces.flat().map(({ name }) => name));
    for (const name of ['vault.fetch_key', 'vault.burn_key', 'inventory.select_coins']) expect(names).toContain(name);
  });

  test('contain no user, coin, key material or token', async () => {
    const spans = [...traces, ...(await collector.traces('aqm-coin'))].flat();
    expect(spans.length).toBeGreaterThan(100);
    expectNoSecrets(spans, [...ATTRIBUTES, 'error', 'otel.status_code']);
    const processes = [...(await collector.processes('aqm-demo')), ...(await collector.processes('aqm-coin'))];
    expect(processes.length).toBeGreaterThan(0);
    expect(JSON.stringify(processes)).not.toMatch(SECRET);
  });
});

describe('a service', () => {
  let service: TestService;
  let running: ServiceProcess;

  beforeEach(async () => {
    service = await startService({}, { replicas: 1 });
  });
  afterEach(async () => {
    if (running.child.exitCode === null) await running.stop();
    await service.stop();
  });

  const users = (count: number) =>
    Promise.all(Array.from({ length: count }, () => service.user({ address: running.address })));
  /**
   * Waits until the collector has at least this many spans of a service: at its exit the service waits for
   * 2 s only.
   */
  const spansArrived = (name: string, min: number) =>
    eventually('the spans have arrived', async () => (await collector.traces(name)).flat().length >= min);
  const lines = (msg: string): { readonly trace_id?: string }[] =>
    running
      .log()
      .split('\n')
      .filter((line) => line.includes(`"msg":"${msg}"`))
      .map((line) => JSON.parse(line));

  test('links the statement of a batch with each of its calls, in both directions, and logs their trace ids', async () => {
    running = await spawnService(service, {
      ...collector.env,
      OTEL_SERVICE_NAME: 'sharing',
      AQM_CLAIM_BATCH: '256',
      AQM_LOG_LEVEL: 'debug',
    });
    const [bob, ...callers] = await users(20);
    await bob?.upload(mint(60));
    const fetch = { targetUserId: bob?.id ?? '', coinCategory: BRONZE, count: 1 };
    const fetched = await Promise.all([...callers, ...callers].map((caller) => caller.fetch(fetch)));
    expect(new Set(fetched.flatMap(({ coins }) => ids(coins))).size).toBe(38);
    // Each call has a span and waits for its batch, and each batch has a statement.
    await spansArrived('sharing', 2 * 38 + 1);
    expect(await running.stop()).toBe(0);

    const spans = (await collector.traces('sharing')).flat();
    const calls = spans.filter(({ name }) => name.endsWith('/FetchCoins'));
    expect(calls).toHaveLength(38);
    const shared = spans.filter(({ links, attributes }) => links.length > 1 && 'db.system.name' in attributes);
    expect(shared.length).toBeGreaterThan(0);
    for (const { spanId, parent, links } of shared) {
      const sharing = calls.filter((call) => links.includes(call.spanId));
      expect(sharing).toHaveLength(links.length);
      expect(new Set(sharing.map(({ traceId }) => traceId)).size).toBe(links.length);
      expect(links).toContain(parent);
      for (const call of sharing) {
        const wait = spans.find((span) => span.parent === call.spanId && span.name === 'wait for a shared statement');
        expect(wait?.links).toEqual([spanId]);
      }
    }
    // The statement of another batch is not part of a call, even if the call started that batch.
    for (const call of calls) {
      const statements = spans.filter(
        ({ parent, attributes }) => parent === call.spanId && 'db.system.name' in attributes,
      );
      for (const { links } of statements) expect(links.length === 0 || links.includes(call.spanId)).toBe(true);
    }
    expectNoSecrets(spans);
    const logged = lines('call').map(({ trace_id }) => trace_id);
    for (const { traceId } of calls) expect(logged).toContain(traceId);
  });

  test('records what calls did: items, outcomes, the size of batches and the writes of the fence; and its version', async () => {
    running = await spawnService(service, { ...collector.env, OTEL_SERVICE_NAME: 'doing', AQM_CLAIM_BATCH: '256' });
    const [bob, alice] = await users(2);
    const coins = mint(3);
    await bob?.upload(coins);
    await bob?.reconcile({ coinCategory: BRONZE, keyIds: ids(coins) });
    const fetch = { targetUserId: bob?.id ?? '', coinCategory: BRONZE };
    await alice?.fetch({ ...fetch, count: 2 });
    await alice?.fetch({ ...fetch, count: 2 });
    await alice?.fetch({ ...fetch, count: 2 });
    // At its exit the service waits for 2 s only.
    await eventually('the spans have arrived', async () => (await collector.traces('doing')).length >= 5);
    expect(await running.stop()).toBe(0);
    const spans = (await collector.traces('doing')).flat();
    const callsOf = (method: string) =>
      spans.filter(({ name }) => name === `aqm.coin.v1.CoinService/${method}`).map(itemsOf);
    expect(callsOf('UploadCoins')).toEqual([{ 'aqm.items': 3, 'aqm.items.inserted': 3 }]);
    expect(callsOf('ReconcileCoins')).toEqual([{ 'aqm.items': 3, 'aqm.items.in_stock': 3 }]);
    const fetches = callsOf('FetchCoins');
    expect(fetches).toHaveLength(3);
    for (const outcome of ['whole', 'short', 'empty']) {
      expect(fetches).toContainEqual({ 'aqm.items': 1, [`aqm.items.${outcome}`]: 1 });
    }
    const records = spans.filter(({ name }) => name === 'record hand-outs');
    expect(records.map(({ attributes }) => Number(attributes['aqm.coins'])).sort()).toEqual([1, 2]);
    const fetchSpans = spans.filter(({ name }) => name.endsWith('/FetchCoins')).map(({ spanId }) => spanId);
    for (const { parent } of records) expect(fetchSpans).toContain(parent);
    const batched = spans.filter(({ attributes }) => attributes['aqm.batch.size'] !== undefined);
    expect(batched.map(({ attributes }) => Number(attributes['aqm.batch.size']))).toContain(1);
    expectNoSecrets(spans);
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    expect(JSON.stringify(await collector.processes('doing'))).toContain(version);
  });

  test('records code and reason of a refused call, and of a failed statement only its SQLSTATE', async () => {
    running = await spawnService(service, { ...collector.env, OTEL_SERVICE_NAME: 'refusing' });
    const [bob] = await users(1);
    await bob?.upload(mint(1).map((coin) => ({ ...coin, keyId: 'not a UUID' }))).catch(() => {});
    await asAdmin(`ALTER DATABASE ${service.database.name} SET default_transaction_read_only = on`);
    // Open connections do not see the new setting.
    await asAdmin(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${service.database.name}'`);
    // The first calls may meet connections that have just been ended.
    await eventually('PostgreSQL has refused a statement', async () => {
      await bob?.upload(mint(1)).catch(() => {});
      const arrived = (await collector.traces('refusing')).flat();
      return arrived.some(({ attributes }) => attributes['db.response.status_code'] === '25006');
    });
    await running.stop();
    const spans = (await collector.traces('refusing')).flat();
    const [refused] = spans.filter(({ attributes }) => attributes['aqm.reason'] === 'INVALID_FIELD');
    expect(refused?.attributes).toMatchObject({ 'error.type': 'INVALID_ARGUMENT', [ANSWERED]: 'INVALID_ARGUMENT' });
    expect(refused?.attributes.error).toBeUndefined();
    const [failed] = spans.filter(({ attributes }) => attributes['db.response.status_code'] === '25006');
    expect(failed?.attributes).toMatchObject({ error: true, 'error.type': '25006' });
    const [call] = spans.filter(({ spanId }) => spanId === failed?.parent);
    expect(call?.attributes).toMatchObject({ error: true, 'aqm.reason': 'DATABASE_UNAVAILABLE' });
    expectNoSecrets(spans, [...ATTRIBUTES, 'error', 'db.response.status_code', 'otel.status_code']);
  });

  const samplers: [string, string, number, number][] = [['parentbased_traceidratio', '0.5', 50, 150]];
  if (IS_FULL_RUN) {
    samplers.push(['parentbased_traceidratio', '0', 0, 0], ['traceidratio', '0', 0, 0]);
    samplers.push(['parentbased_always_off', '', 0, 0], ['parentbased_traceidratio', '1', 200, 200]);
  }
  test.each(samplers)(
    'with the sampler %s and the argument %j traces %d to %d of 200 calls',
    async (sampler, argument, min, max) => {
      const name = `${sampler}-${argument}`;
      const sampling = { OTEL_TRACES_SAMPLER: sampler, OTEL_TRACES_SAMPLER_ARG: argument, OTEL_SERVICE_NAME: name };
      running = await spawnService(service, { ...collector.env, ...sampling });
      const [bob] = await users(1);
      for (let calls = 0; calls < 200; calls += 1) await bob?.count();
      await spansArrived(name, 2 * min);
      expect(await running.stop()).toBe(0);
      const traces = await collector.traces(name);
      expect(traces.length).toBeGreaterThanOrEqual(min);
      expect(traces.length).toBeLessThanOrEqual(max);
      // A trace contains the call and its statement.
      for (const trace of traces) expect(trace).toHaveLength(2);
    },
  );

  test('continues a sampled trace of its caller, and does not record an unsampled one', async () => {
    const sampling = { OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: '0' };
    running = await spawnService(service, { ...collector.env, ...sampling, OTEL_SERVICE_NAME: 'following' });
    const { token, id } = await service.user();
    const client = new CoinServiceClient(running.address, credentials.createInsecure());
    for (const [traceId, flag] of [
      ['a'.repeat(32), '01'],
      ['b'.repeat(32), '00'],
    ]) {
      const metadata = bearer(token);
      metadata.set('traceparent', `00-${traceId}-${'c'.repeat(16)}-${flag}`);
      metadata.set('baggage', `user=${id}`);
      await call(client.getInventoryCount.bind(client), { deviceId: '' }, metadata);
    }
    client.close();
    await spansArrived('following', 2);
    expect(await running.stop()).toBe(0);
    const traces = await collector.traces('following');
    expect(traces.map((trace) => trace[0]?.traceId)).toEqual(['a'.repeat(32)]);
    expectNoSecrets(traces.flat());
  });

  if (IS_FULL_RUN) {
    test('keeps serving while its collector is unreachable, logs that once, and stops gracefully', async () => {
      const [port = 0] = await freePorts(1);
      running = await spawnService(service, tracesTo(`http://127.0.0.1:${port}`, 'grpc'));
      const [bob] = await users(1);
      await bob?.upload(mint(3));
      await eventually('the unreachable collector is logged', () => lines('telemetry').length > 0);
      expect((await bob?.count())?.available?.bronze).toBe(3);
      expect(await running.stop()).toBe(0);
      expect(lines('telemetry')).toHaveLength(1);
    });

    test('keeps serving when its collector dies, and stops gracefully', async () => {
      const collector = await startTraceCollector();
      running = await spawnService(service, { ...collector.env, OTEL_SERVICE_NAME: 'collector-dies' });
      const [bob] = await users(1);
      await bob?.upload(mint(3));
      await eventually('a trace has arrived', async () => (await collector.traces('collector-dies')).length > 0);
      await collector.stop();
      await bob?.upload(mint(3));
      await eventually('the unreachable collector is logged', () => lines('telemetry').length > 0);
      expect((await bob?.count())?.available?.bronze).toBe(6);
      expect(await running.stop()).toBe(0);
    });
  }

  test('exports nothing and loads no SDK unless an endpoint or an exporter is named', async () => {
    running = await spawnService(service, { OTEL_SERVICE_NAME: 'silent', NODE_DEBUG: 'module' });
    expect(running.log()).toContain('@opentelemetry/api');
    expect(running.log()).not.toContain('@opentelemetry/sdk');
    expect(lines('telemetry is on')).toEqual([]);
  });
});

test.each([
  [{}, []],
  [{ OTEL_SERVICE_NAME: 'coins', OTEL_TRACES_SAMPLER: 'always_on' }, []],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' }, ['traces', 'metrics']],
  [{ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://jaeger:4318' }, ['traces']],
  [{ OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: 'http://collector:4318' }, ['metrics']],
  [{ OTEL_METRICS_EXPORTER: 'prometheus' }, ['metrics']],
  [{ OTEL_TRACES_EXPORTER: 'console' }, ['traces']],
  [{ OTEL_TRACES_EXPORTER: 'none', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' }, ['metrics']],
  [{ OTEL_METRICS_EXPORTER: 'prometheus', OTEL_SDK_DISABLED: 'true' }, []],
])('the environment %j enables the signals %j', (env, signals) => {
  const { traces, metrics } = signalsOf(env);
  expect([...(traces ? ['traces'] : []), ...(metrics ? ['metrics'] : [])]).toEqual(signals);
});
