import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../../testkit/eventually';
import { Cluster } from '../../testkit/postgres-cluster';
import { ROOT } from '../../testkit/root';
import { Container } from './container';
import { readDockerfile } from './dockerfile';
import { goTool, makeImage } from './image';
import { Machine } from './machine';
import { type Container as ContainerSpec, errorsOf, type Manifest, type Probe, parseManifests } from './manifests';

/** Runs the pods of deploy/kubernetes/example as processes, and asks their probes. */

let folder: string;
let manifests: Manifest[];
const ofKind = (kind: string) => manifests.filter((manifest) => manifest.kind === kind);
const podsOf = () => ['StatefulSet', 'Job'].flatMap((kind) => ofKind(kind).map(({ spec }) => spec.template));

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-kubernetes-'));
  const kustomize = await goTool('kustomize');
  const rendered = execFileSync(kustomize, ['build', join(ROOT, 'deploy/kubernetes/example')], { encoding: 'utf8' });
  manifests = parseManifests(rendered);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('all that kustomize makes of the example is valid, and in its namespace', () => {
  expect(manifests.map(({ kind }) => kind).sort()).toEqual([
    ...[
      'ConfigMap',
      'Job',
      'Namespace',
      'NetworkPolicy',
      'PersistentVolumeClaim',
      'PodDisruptionBudget',
      'PrometheusRule',
    ],
    ...['Service', 'Service', 'Service', 'ServiceAccount', 'ServiceMonitor', 'StatefulSet'],
  ]);
  for (const manifest of manifests) {
    expect([manifest.kind, errorsOf(manifest)]).toEqual([manifest.kind, undefined]);
    if (manifest.kind !== 'Namespace') expect(manifest.metadata.namespace).toBe('aqm');
  }
});

test('what one names, another defines', () => {
  const names = (kind: string) => ofKind(kind).map(({ metadata }) => metadata.name);
  const labelsOf = ({ metadata }: Manifest) => metadata.labels ?? {};
  for (const { spec } of podsOf()) {
    expect(names('ServiceAccount')).toContain(spec.serviceAccountName);
    expect(names('ConfigMap')).toContain(spec.containers[0].envFrom[0].configMapRef.name);
    for (const { persistentVolumeClaim } of spec.volumes ?? []) {
      if (persistentVolumeClaim) expect(names('PersistentVolumeClaim')).toContain(persistentVolumeClaim.claimName);
    }
  }
  const selects = (selector: object, labels: object) => expect(labels).toMatchObject(selector);
  const [pod] = podsOf();
  const [set] = ofKind('StatefulSet');
  expect(names('Service')).toContain(set?.spec.serviceName);
  selects(set?.spec.selector.matchLabels, pod.metadata.labels);
  for (const { spec } of ofKind('Service')) selects(spec.selector, pod.metadata.labels);
  for (const { spec } of ofKind('PodDisruptionBudget')) selects(spec.selector.matchLabels, pod.metadata.labels);
  for (const { metadata } of podsOf())
    selects(ofKind('NetworkPolicy')[0]?.spec.podSelector.matchLabels, metadata.labels);
  const monitor = ofKind('ServiceMonitor')[0]?.spec;
  const watched = ofKind('Service').filter((service) =>
    Object.entries(monitor.selector.matchLabels).every(([name, value]) => labelsOf(service)[name] === value),
  );
  expect(watched.map(({ spec }) => spec.ports.map(({ name }: { name: string }) => name))).toEqual([['metrics']]);
});

describe('the pods', () => {
  let machine: Machine;
  let cluster: Cluster;
  let image: string;
  let running: Container | undefined;

  beforeAll(async () => {
    image = await makeImage(join(folder, 'image'));
    cluster = new Cluster(join(folder, 'cluster'));
    await cluster.init();
    await cluster.start(['fsync=on']);
    await cluster.query('CREATE DATABASE aqm', 'postgres');
    machine = await Machine.start([folder]);
    // The issuer of the example is not here, so its key is in a file.
    mkdirSync(join(folder, 'keys'));
    const { publicKey } = generateKeyPairSync('ed25519');
    writeFileSync(join(folder, 'keys/keys.pem'), publicKey.export({ type: 'spki', format: 'pem' }));
    mkdirSync(join(folder, 'tls'));
    const files = ['-keyout', 'tls/tls.key', '-out', 'tls/tls.crt', '-subj', '/CN=coin.example.org'];
    execFileSync(
      'openssl',
      ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', ...files],
      {
        cwd: folder,
        stdio: 'ignore',
      },
    );
    chmodSync(join(folder, 'tls/tls.key'), 0o644);
    mkdirSync(join(folder, 'secrets'));
    writeFileSync(join(folder, 'secrets/DATABASE_URL'), `${cluster.url()}\n`);
    mkdirSync(join(folder, 'watermark'));
    chmodSync(join(folder, 'watermark'), 0o777);
    // Read by the user of the pods.
    chmodSync(folder, 0o755);
  });
  afterAll(async () => {
    await running?.end('SIGKILL');
    await machine?.stop();
    await cluster?.stop();
  });

  function start(template: Manifest, hostname: string): Container {
    const { spec } = template;
    const container: ContainerSpec = spec.containers[0];
    const { final } = readDockerfile();
    const settings = ofKind('ConfigMap')[0]?.data as Record<string, string>;
    return new Container(machine, {
      layers: [image],
      command: container.command ?? final.command,
      environment: {
        ...final.environment,
        ...settings,
        // There is no Redis here.
        AQM_LIMITS_REDIS_URL_FILE: '',
        AQM_TOKEN_JWKS_URL: '',
        AQM_TOKEN_PUBLIC_KEY_FILE: '/keys/keys.pem',
      },
      volumes: [
        ...(container.volumeMounts ?? []).map(({ name, mountPath }) => ({
          source: join(folder, name),
          target: mountPath,
        })),
        { source: join(folder, 'keys'), target: '/keys', isReadOnly: true },
        { source: cluster.socketFolder, target: cluster.socketFolder },
      ],
      hostname,
      isAlone: true,
      user: spec.securityContext.runAsUser,
    });
  }

  const passes = async ({ exec }: Probe) => (await running?.exec(exec?.command ?? []))?.code === 0;
  const specOf = (kind: string) => ofKind(kind)[0]?.spec.template as Manifest;

  test('the Job migrates, and may run again', async () => {
    for (const name of ['aqm-migrate-1', 'aqm-migrate-2']) {
      const job = start(specOf('Job'), name);
      expect([await job.exited, job.log]).toEqual([0, expect.any(String)]);
    }
  });

  test('a replica passes its probes, and leaves its watermark under its name', async () => {
    running = start(specOf('StatefulSet'), 'aqm-0');
    const { startupProbe, livenessProbe, readinessProbe } = specOf('StatefulSet').spec.containers[0];
    await eventually('readiness', () => passes(readinessProbe));
    expect([await passes(startupProbe), await passes(livenessProbe)]).toEqual([true, true]);
    expect(await machine.do(`ls ${folder}/watermark/fence/*`)).toContain('aqm-0-1.ring');
  });

  test('without PostgreSQL it is alive and not ready, so it is not killed, and it comes back by itself', async () => {
    const { startupProbe, livenessProbe, readinessProbe } = specOf('StatefulSet').spec.containers[0];
    await cluster.stop();
    await eventually('no readiness', async () => !(await passes(readinessProbe)));
    // More often than kills it.
    for (let n = 0; n <= livenessProbe.failureThreshold; n++) expect(await passes(livenessProbe)).toBe(true);
    // One that starts now: Kubernetes kills what does not pass its start.
    const second = start(specOf('StatefulSet'), 'aqm-1');
    const first = running;
    running = second;
    await eventually('the start of the second', () => passes(startupProbe));
    expect([await passes(livenessProbe), await passes(readinessProbe)]).toEqual([true, false]);
    await cluster.start(['fsync=on']);
    await eventually('readiness of the second', () => passes(readinessProbe));
    expect(await second.end('SIGTERM')).toBe(0);
    running = first;
    await eventually('readiness of the first', () => passes(readinessProbe));
    expect(await first?.end('SIGTERM')).toBe(0);
    running = undefined;
  });
});
