import { join } from 'node:path';
import { eventually } from '../../testkit/eventually';
import { ROOT } from '../../testkit/root';
import { type ComposeService, readComposeFile } from './compose-file';
import { Container, type Volume } from './container';
import { readDockerfile } from './dockerfile';
import type { Machine, Output } from './machine';

/** Stands for an image of docker-compose.yml that is not built here. */
export interface StandIn {
  /** Its entrypoint, before the command of the service. */
  readonly entrypoint: readonly string[];
  readonly user: number;
}

/** Folders of the machine that stand for named volumes. */
const VOLUMES = '/var/lib/volumes';
const NODE = 1000;

/**
 * Does what `docker compose` does with docker-compose.yml, with processes of a machine in place of containers: environment,
 * volumes, users, read-only files, health checks, and the order of the services. All share one network, and their names lead to it.
 * Not done: limits of memory and processor, logging, restarts.
 */
export class Compose {
  readonly #machine: Machine;
  readonly #image: string;
  readonly #standIns: Readonly<Record<string, StandIn>>;
  readonly #file = readComposeFile();
  readonly #running = new Map<string, Container>();

  constructor(machine: Machine, image: string, standIns: Readonly<Record<string, StandIn>>) {
    this.#machine = machine;
    this.#image = image;
    this.#standIns = standIns;
  }

  /** Runs a command line that begins with "docker compose". */
  async run(line: string, env: Readonly<Record<string, string>> = {}): Promise<Output> {
    const [, profile] = /^docker compose --profile (\w+) /.exec(line) ?? [];
    const [program, compose, verb, ...words] = line
      .trim()
      .replace(/--profile \w+ /, '')
      .split(/\s+/);
    if (program !== 'docker' || compose !== 'compose') throw new Error(`not a command of docker compose: ${line}`);
    const [name = '', ...rest] = words.filter((word) => word !== '--rm' && word !== '--wait');
    if (verb === 'up') return this.#up(env, profile);
    if (verb === 'down') return this.#down();
    if (verb === 'exec') return this.exec(name, rest);
    if (verb !== 'run') throw new Error(`docker compose ${verb} is not known here`);
    const container = await this.#start(name, env, rest);
    const code = await container.exited;
    return { code, stdout: container.stdout, stderr: container.stderr };
  }

  exec(name: string, command: readonly string[]): Promise<Output> {
    return this.#container(name).exec(command);
  }

  async #up(env: Readonly<Record<string, string>>, profile?: string): Promise<Output> {
    const names = Object.entries(this.#file.services).flatMap(([name, { profiles }]) =>
      profiles?.every((one) => one !== profile) ? [] : [name],
    );
    await this.#machine.do(`echo '127.0.0.1 ${names.join(' ')}' >>/etc/hosts`);
    const left = new Set(names);
    while (left.size > 0) {
      const [name] = [...left].filter((one) =>
        Object.keys(this.#service(one).depends_on ?? {}).every((o) => !left.has(o)),
      );
      if (name === undefined) throw new Error(`${[...left]} wait for each other`);
      left.delete(name);
      if (this.#running.has(name) && !this.#container(name).hasEnded) continue;
      const container = await this.#start(name, env);
      this.#running.set(name, container);
      const { healthcheck } = this.#service(name);
      if (healthcheck) {
        const [, ...check] = healthcheck.test;
        await eventually(`health of ${name}`, async () => (await container.exec(check)).code === 0);
      } else if ((await container.exited) !== 0) throw new Error(`${name} has failed: ${container.log}`);
    }
    return { code: 0, stdout: '', stderr: '' };
  }

  async #down(): Promise<Output> {
    const signals: NodeJS.Signals[] = [];
    // Services that depend on others were started after them.
    for (const [name, container] of [...this.#running].reverse()) {
      // The postgres image says that it is stopped by SIGINT, a fast shutdown.
      const signal = name === 'postgres' ? 'SIGINT' : 'SIGTERM';
      if (!container.hasEnded && (await container.end(signal)) !== 0) signals.push(signal);
    }
    this.#running.clear();
    return { code: signals.length, stdout: '', stderr: signals.join(' ') };
  }

  async #start(name: string, env: Readonly<Record<string, string>>, args?: readonly string[]): Promise<Container> {
    const service = this.#service(name);
    const image = service.image === 'aqm-coin-service' ? readDockerfile().final : undefined;
    const standIn = this.#standIns[name];
    if (!image && !standIn) throw new Error(`${service.image} cannot be run here`);
    const volumes = (service.volumes ?? []).map(volumeOf);
    for (const { source, target } of volumes) {
      // A new volume belongs to root, unless the image has a folder of another owner in its place.
      const owner = standIn?.user ?? (target === '/var/lib/aqm' ? NODE : 0);
      const isOwned = standIn !== undefined && target === '/var/lib/postgresql';
      if (!source.startsWith(VOLUMES)) continue;
      await this.#machine.do(`[ -d ${source} ] || install -d -o ${isOwned || !standIn ? owner : 0} ${source}`);
      if (isOwned) await this.#machine.do(`chown ${owner} ${source}`);
    }
    const environment = Object.entries({ ...image?.environment, ...service.environment }).map(([variable, value]) => [
      variable,
      filled(value, env),
    ]);
    return new Container(this.#machine, {
      layers: image ? [this.#image] : [],
      command: [
        ...(service.entrypoint ?? standIn?.entrypoint ?? []),
        ...(args ?? service.command ?? (service.entrypoint || standIn ? [] : (image?.command ?? []))),
      ],
      environment: Object.fromEntries(environment),
      volumes,
      hostname: service.hostname ?? name,
      user: standIn?.user ?? (service.user === '0:0' ? 0 : NODE),
      folder: image ? '/app' : '/',
      isWritable: service.read_only !== true,
    });
  }

  #service(name: string): ComposeService {
    const service = this.#file.services[name];
    if (!service) throw new Error(`docker-compose.yml has no service ${name}`);
    return service;
  }

  #container(name: string): Container {
    const container = this.#running.get(name);
    if (!container) throw new Error(`${name} does not run`);
    return container;
  }
}

function volumeOf(text: string): Volume {
  const [source = '', target = '', mode] = text.split(':');
  const place = source.startsWith('./') ? join(ROOT, source) : `${VOLUMES}/${source}`;
  return { source: place, target, isReadOnly: mode === 'ro' };
}

/** Fills in the variables of a value: ${NAME-default} and ${NAME:-default}. */
function filled(value: string, env: Readonly<Record<string, string>>): string {
  return value.replace(/\$\{(\w+)(:?)-([^}]*)\}/g, (_all, name: string, colon: string, text: string) => {
    const given = env[name];
    return given === undefined || (colon !== '' && given === '') ? text : given;
  });
}
