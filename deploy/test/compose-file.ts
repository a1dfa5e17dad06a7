import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { ROOT } from '../../testkit/root';

export interface ComposeService {
  readonly image?: string;
  readonly profiles?: readonly string[];
  readonly command?: readonly string[];
  readonly entrypoint?: readonly string[];
  readonly user?: string;
  readonly hostname?: string;
  readonly restart: string;
  readonly read_only?: boolean;
  readonly mem_limit: string;
  readonly cpus: number;
  readonly logging: object;
  readonly environment?: Readonly<Record<string, string>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  /** Missing for a service that ends. */
  readonly healthcheck?: { readonly test: readonly string[] };
}

export interface ComposeFile {
  readonly services: Readonly<Record<string, ComposeService>>;
  readonly volumes: Readonly<Record<string, unknown>>;
}

/** Reads docker-compose.yml with `<<` merged. Variables stay as they are written. */
export function readComposeFile(): ComposeFile {
  return parse(readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8'), { merge: true });
}

export function serviceNamed(name: string): ComposeService {
  const service = readComposeFile().services[name];
  if (!service) throw new Error(`docker-compose.yml has no service ${name}`);
  return service;
}

/** Returns the command of a service's health check, with some texts of the container replaced. */
export function healthCheckOf(name: string, replaced: Readonly<Record<string, string>>): string[] {
  const [kind, ...words] = serviceNamed(name).healthcheck?.test ?? [];
  const here = words.map((word) =>
    Object.entries(replaced).reduce((text, [from, to]) => text.replaceAll(from, () => to), word),
  );
  return kind === 'CMD-SHELL' ? ['sh', '-c', ...here] : here;
}
