import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import Ajv, { type ErrorObject } from 'ajv/dist/2020';
import { parseAllDocuments } from 'yaml';

/** A container of a pod, as far as the tests read it. */
export interface Container {
  readonly name: string;
  readonly image: string;
  readonly command?: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
  readonly startupProbe: Probe;
  readonly livenessProbe: Probe;
  readonly readinessProbe: Probe;
  readonly securityContext: object;
}

export interface Probe {
  readonly grpc?: { readonly port: number; readonly service?: string };
  readonly exec?: { readonly command: readonly string[] };
  readonly periodSeconds: number;
  readonly failureThreshold: number;
}

export interface PodSpec {
  readonly containers: readonly [Container, ...Container[]];
  readonly enableServiceLinks: boolean;
  readonly automountServiceAccountToken: boolean;
  readonly securityContext: object;
  readonly terminationGracePeriodSeconds: number;
}

// biome-ignore lint/suspicious/noExplicitAny: each kind has another form, which the schema of the API checks.
export type Manifest = { readonly apiVersion: string; readonly kind: string } & Record<string, any>;

/**
 * The schemas of the kinds in deploy/kubernetes, without descriptions, and with unknown fields refused. Those of Kubernetes are from
 * kubernetes-validate 1.37.0 (v1.37.0-local-strict), ServiceMonitor and PrometheusRule from prometheus-operator v0.85.0; both Apache-2.0.
 */
const { $defs } = JSON.parse(readFileSync(join(__dirname, 'kubernetes-schemas.json'), 'utf8'));
const ajv = new Ajv({ strict: false, validateFormats: false }).addSchema({
  $id: 'kubernetes',
  $defs,
});

export function parseManifests(text: string): Manifest[] {
  return parseAllDocuments(text, { merge: true }).map((document) => {
    if (document.errors.length > 0) throw document.errors[0];
    return document.toJS();
  });
}

/** Checks a manifest against the schema of its kind. @returns undefined if it is valid */
export function errorsOf(manifest: Manifest): readonly ErrorObject[] | undefined {
  const [group, version] = manifest.apiVersion.includes('/')
    ? manifest.apiVersion.split('/')
    : ['', manifest.apiVersion];
  const ending = `.${version}.${manifest.kind}`;
  const name = Object.keys($defs).find(
    (known) => known.endsWith(ending) && known.includes(group === '' ? '.core.' : (group?.split('.')[0] ?? '')),
  );
  if (name === undefined) throw new Error(`kubernetes-schemas.json has no ${manifest.apiVersion} ${manifest.kind}`);
  const validate = ajv.compile({ $ref: `kubernetes#/$defs/${name}` });
  return validate(manifest) ? undefined : (validate.errors ?? []);
}
