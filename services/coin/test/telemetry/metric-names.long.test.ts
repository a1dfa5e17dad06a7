import { createPublicKey } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { documentedMetrics, otlpName } from '../../../../deploy/monitoring/metrics';
import { BRONZE, mint } from '../../../../testkit/coins';
import { eventually } from '../../../../testkit/eventually';
import { freePorts } from '../../../../testkit/free-port';
import { compiled } from '../../../../testkit/root';
import { startService, type TestService } from '../../../../testkit/service';
import { type ServiceProcess, spawnProgram, spawnService } from '../../../../testkit/service-process';
import { CertificateAuthority } from '../transport/certificate-authority';

/** A metric as it is exported or documented, in one line. */
type Line = string;

interface OtlpPoint {
  readonly attributes: readonly { readonly key: string }[];
}
interface OtlpMetric {
  readonly name: string;
  readonly unit?: string;
  readonly gauge?: { readonly dataPoints: readonly OtlpPoint[] };
  readonly sum?: { readonly dataPoints: readonly OtlpPoint[] };
  readonly histogram?: { readonly dataPoints: readonly OtlpPoint[] };
}
interface OtlpRequest {
  readonly resourceMetrics: readonly {
    readonly scopeMetrics: readonly { readonly metrics: readonly OtlpMetric[] }[];
  }[];
}

let service: TestService;
let folder: string;
let ports: number[];
const servers: Server[] = [];
const processes: ServiceProcess[] = [];
/** Every metric that arrived by OTLP, by name, with its labels. */
const received = new Map<string, { readonly metric: OtlpMetric; readonly labels: Set<string> }>();

beforeAll(async () => {
  service = await startService({}, { replicas: 1 });
  folder = mkdtempSync(join(tmpdir(), 'aqm-metric-names-'));
  const keys = [{ ...createPublicKey(service.privateKey).export({ format: 'jwk' }), kid: 'a' }];
  const issuer = await serve((_body, answer) => answer({ keys }));
  const collector = await serve((body, answer) => {
    receive(body as OtlpRequest);
    answer({});
  });
  const { certificate, key } = new CertificateAuthority(folder, 'authority').issue();
  const files = { AQM_TLS_CERT_FILE: join(folder, 'server.crt'), AQM_TLS_KEY_FILE: join(folder, 'server.key') };
  writeFileSync(files.AQM_TLS_CERT_FILE, certificate);
  writeFileSync(files.AQM_TLS_KEY_FILE, key);
  ports = await freePorts(3);
  const env = (index: number) => ({
    OTEL_METRICS_EXPORTER: 'prometheus,otlp',
    OTEL_EXPORTER_PROMETHEUS_HOST: '127.0.0.1',
    OTEL_EXPORTER_PROMETHEUS_PORT: String(ports[index]),
    OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: `${collector}/v1/metrics`,
    OTEL_METRIC_EXPORT_INTERVAL: '500',
    OTEL_METRIC_EXPORT_TIMEOUT: '500',
  });
  const keysOfUrl = { AQM_TOKEN_PUBLIC_KEY_FILE: '', AQM_TOKEN_JWKS_URL: `${issuer}/jwks` };
  const [plain, secure, device] = await Promise.all([
    spawnService(service, env(0)),
    spawnService(service, { ...env(1), ...files, ...keysOfUrl }),
    spawnProgram(compiled('testkit/observed-device'), service.database.name, env(2)),
  ]);
  processes.push(plain, secure, device);
  const bob = await service.user({ address: plain.address });
  await bob.upload(mint(1));
  await bob.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 1 });
  await bob.fetchDevices([{ targetUserId: bob.id, coinCategory: BRONZE }]);
});
afterAll(async () => {
  for (const running of processes) await running.stop();
  for (const server of servers) server.close();
  await service.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Starts a server for JSON. @returns its URL */
async function serve(handle: (body: unknown, answer: (body: unknown) => void) => void): Promise<string> {
  const server = createServer(async (request, response) => {
    const body = request.method === 'POST' ? await json(request) : undefined;
    handle(body, (answer) => response.setHeader('content-type', 'application/json').end(JSON.stringify(answer)));
  });
  servers.push(server);
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function receive({ resourceMetrics }: OtlpRequest): void {
  const metrics = resourceMetrics.flatMap(({ scopeMetrics }) => scopeMetrics.flatMap(({ metrics: found }) => found));
  for (const metric of metrics) {
    const labels = received.get(metric.name)?.labels ?? new Set();
    for (const { attributes } of (metric.gauge ?? metric.sum ?? metric.histogram)?.dataPoints ?? [])
      for (const { key } of attributes) labels.add(key.replaceAll('.', '_'));
    received.set(metric.name, { metric, labels });
  }
}

/** Returns what the processes show at their Prometheus ports. */
async function scraped(): Promise<Line[]> {
  const texts = await Promise.all(ports.map((port) => fetch(`http://127.0.0.1:${port}/metrics`).then((r) => r.text())));
  const found = new Map<string, { readonly type: string; readonly labels: Set<string> }>();
  for (const line of texts.flatMap((text) => text.split('\n'))) {
    const [, name, type] = /^# TYPE (\w+) (\w+)$/.exec(line) ?? [];
    // A description of the process, not a metric.
    if (name && type && name !== 'target_info') found.set(name, found.get(name) ?? { type, labels: new Set() });
    const [, sample = '', labels = ''] = /^(\w+)\{(.*)\} \S+$/.exec(line) ?? [];
    const metric = found.get(sample) ?? found.get(sample.replace(/_(bucket|sum|count)$/, ''));
    for (const [, label = ''] of labels.matchAll(/(\w+)="/g))
      if (label !== 'le' && !label.startsWith('otel_scope')) metric?.labels.add(label);
  }
  return [...found].map(([name, { type, labels }]) => lineOf(name, type, labels)).sort();
}

const lineOf = (name: string, type: string, labels: Iterable<string>) => `${name} ${type} ${[...labels].sort()}`;

const DOCUMENTED = documentedMetrics();

test('the documents name every metric at the Prometheus port with its type and labels, and no other', async () => {
  const expected = DOCUMENTED.map(({ name, type, labels }) => lineOf(name, type, labels)).sort();
  expect(expected.length).toBeGreaterThan(30);
  let found: Line[] = [];
  // Some are known only after a while, such as the time of the first housekeeping run.
  await eventually('every metric has been exported', async () => {
    found = await scraped();
    return found.length >= expected.length;
  }).catch(() => {});
  expect(found).toEqual(expected);
});

test('by OTLP they arrive with the units that give them the documented names in Prometheus', async () => {
  const expected = DOCUMENTED.map((metric) => lineOf(otlpName(metric), metric.type, metric.labels)).sort();
  await eventually('every metric has arrived', () => received.size >= expected.length).catch(() => {});
  const suffixOf = (unit = '') => ({ s: '_seconds', By: '_bytes', '': '' })[unit] ?? `_${unit}`;
  const found = [...received.values()].map(({ metric, labels }) => {
    const type = metric.histogram ? 'histogram' : metric.sum ? 'counter' : 'gauge';
    const name = metric.name.replaceAll('.', '_') + suffixOf(metric.unit) + (type === 'counter' ? '_total' : '');
    return lineOf(name, type, labels);
  });
  expect(found.sort()).toEqual(expected);
});

test('the versions, the end of the certificate and the age of the token keys are exported', async () => {
  const texts = await Promise.all(ports.map((port) => fetch(`http://127.0.0.1:${port}/metrics`).then((r) => r.text())));
  const [plain = '', secure = ''] = texts;
  const sampleOf = (name: string) => Number(new RegExp(`^${name}\\{.*\\} (\\S+)$`, 'm').exec(secure)?.[1]);
  expect(secure).toContain(`node_version="${process.versions.node}"`);
  expect(secure).toMatch(/aqm_build_info\{.*version="\d+\.\d+\.\d+".*\} 1/);
  expect(secure).toMatch(/aqm_database_info\{.*postgres_version="\d+\.\d+".*\} 1/);
  expect(plain).not.toContain('aqm_certificate_expiry{');
  expect(plain).not.toContain('aqm_token_keys');
  // The authority issues for two days.
  const now = Date.now() / 1000;
  expect(sampleOf('aqm_certificate_expiry') - now).toBeGreaterThan(86_400);
  expect(sampleOf('aqm_certificate_expiry') - now).toBeLessThan(2 * 86_400);
  expect(Math.abs(now - sampleOf('aqm_token_keys_last_success'))).toBeLessThan(600);
  expect(sampleOf('aqm_stock_empty_ratio')).toBe(1);
  for (const name of ['aqm_fence_reason', 'aqm_fence_up']) expect(sampleOf(name)).toBe(0);
});
