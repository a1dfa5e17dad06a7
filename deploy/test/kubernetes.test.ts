import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { readConfig } from '../../services/coin/config';
import { ROOT } from '../../testkit/root';
import { readDockerfile } from './dockerfile';
import { errorsOf, type Manifest, type PodSpec, parseManifests } from './manifests';

const folder = join(ROOT, 'deploy/kubernetes');
const textOf = (file: string) => readFileSync(join(folder, file), 'utf8');
const files = globSync('{base,monitoring,example}/*.yaml', { cwd: folder }).filter(
  (file) => !file.endsWith('kustomization.yaml'),
);
const manifests = files.flatMap((file) => parseManifests(textOf(file)));
const ofKind = (kind: string): Manifest => manifests.find((manifest) => manifest.kind === kind) ?? fail(kind);
const pods: [string, PodSpec][] = ['StatefulSet', 'Job'].map((kind) => [kind, ofKind(kind).spec.template.spec]);

function fail(kind: string): never {
  throw new Error(`there is no ${kind}`);
}

/** Returns the settings of the ConfigMap that the kustomizations of these folders write. */
function settingsOf(...folders: string[]): Record<string, string> {
  const literals = folders.flatMap(
    (name) => parse(textOf(`${name}/kustomization.yaml`)).configMapGenerator[0].literals as string[],
  );
  return Object.fromEntries(literals.map((literal) => literal.split(/=(.*)/s).slice(0, 2)));
}

test.each(files)('%s satisfies the schema of the Kubernetes API', (file) => {
  const all = parseManifests(textOf(file));
  expect(all.length).toBeGreaterThan(0);
  for (const manifest of all) expect([manifest.kind, errorsOf(manifest)]).toEqual([manifest.kind, undefined]);
});

test('a misspelt field, a wrong type and a value that is not allowed are refused', () => {
  const text = textOf('base/stateful-set.yaml');
  for (const [right, wrong] of [
    ['readinessProbe:', 'readynessProbe:'],
    ['replicas: 3', 'replicas: three'],
    ['kind: StatefulSet', 'kind: StatefulSet\nspecs: {}'],
    ['failureThreshold: 60', 'failureTreshold: 60'],
  ] as const) {
    expect(text).toContain(right);
    const [manifest] = parseManifests(text.replace(right, wrong));
    expect(manifest && errorsOf(manifest)).toBeDefined();
  }
  const monitor = parseManifests(textOf('monitoring/service-monitor.yaml').replace('endpoints:', 'endpoint:'));
  expect(monitor[0] && errorsOf(monitor[0])).toBeDefined();
});

describe.each(pods)('the pods of the %s', (_kind, pod) => {
  const [container] = pod.containers;

  test('run without root, capabilities, a writable root file system and a token of the API', () => {
    expect(pod).toMatchObject({
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: 'RuntimeDefault' } },
    });
    expect(container.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
  });

  test('get no variables of services, which the configuration would refuse', () => {
    expect(pod.enableServiceLinks).toBe(false);
    // Variables that Kubernetes adds for the Service aqm.
    expect(() => readConfig({ ...settingsOf('base'), AQM_SERVICE_HOST: '10.0.0.1' })).toThrow('AQM_SERVICE_HOST');
  });

  test('have their secrets in a file', () => {
    expect(container.env).toBeUndefined();
    expect(Object.keys(settingsOf('base')).filter((name) => /(PASSWORD|URL|SECRET)$/.test(name))).toEqual([]);
    expect(container.volumeMounts).toContainEqual({ name: 'secrets', mountPath: '/run/secrets/aqm', readOnly: true });
  });
});

test('the settings are valid, alone and with those of the example', () => {
  const image = readDockerfile().final.environment;
  // The files are not here.
  const secrets = { DATABASE_URL: 'postgresql://aqm@db/aqm', DATABASE_URL_FILE: '', AQM_LIMITS_REDIS_URL_FILE: '' };
  const tokens = { AQM_TOKEN_JWKS_URL: 'https://id.example.org/jwks.json' };
  const alone = readConfig({ ...image, ...tokens, ...settingsOf('base'), ...secrets });
  expect(alone).toMatchObject({ host: '0.0.0.0', port: 50051, fenceDir: '/var/lib/aqm/fence', tls: undefined });
  const example = readConfig({ ...image, ...settingsOf('base', 'tls', 'example'), ...secrets });
  expect(example).toMatchObject({ tls: { certificate: '/etc/aqm/tls/tls.crt' } });
});

test('liveness and start ask whether the process is sound, readiness whether it serves coins', () => {
  const [, { containers, terminationGracePeriodSeconds }] = pods[0] ?? fail('pod');
  const { startupProbe, livenessProbe, readinessProbe } = containers[0];
  expect(startupProbe.grpc).toEqual({ port: 50051 });
  expect(livenessProbe.grpc).toEqual({ port: 50051 });
  expect(readinessProbe.grpc).toEqual({ port: 50051, service: 'aqm.coin.v1.CoinService' });
  const drainMs = readConfig({}).drainTimeoutMs;
  expect(terminationGracePeriodSeconds * 1000).toBeGreaterThan(5000 + drainMs);
});
