import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { eventually } from '../../testkit/eventually';
import { childrenOf, commandOf, type Machine, type Output } from './machine';

export interface Volume {
  /** A file or folder of the machine. */
  readonly source: string;
  /** The place in the container. */
  readonly target: string;
  readonly isReadOnly?: boolean;
}

export interface ContainerOptions {
  /** Folders whose files are added to those of the machine, which stand for the base image; the first one wins. */
  readonly layers: readonly string[];
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly volumes: readonly Volume[];
  readonly hostname: string;
  readonly user: number;
  readonly folder?: string;
  /** Keeps its changes for itself, until it ends. Read-only by default. */
  readonly isWritable?: boolean;
  /** Has a network of its own, without the others. By default all containers of a machine share its network. */
  readonly isAlone?: boolean;
}

/** argv[0] of the shell that sets a container up, and its end. */
const NAME = 'container-set-up';
const SET_UP = `
set -e
folder=$(mktemp -d)
mount -t tmpfs tmpfs "$folder"
cd "$folder"
mkdir root places changes work
for volume in $VOLUMES; do
  IFS='|' read -r source target mode <<<"$volume"
  if [ -d "$source" ]; then mkdir -p "places$target"; else mkdir -p "places\${target%/*}"; touch "places$target"; fi
done
mkdir -p places/tmp
chmod 1777 places/tmp
mount -t overlay overlay -o "lowerdir=$PWD/places\${LAYERS:+:$LAYERS}:/$WRITABLE" root
cd root
mount -t proc proc proc
mount --rbind /dev dev
for volume in $VOLUMES; do
  IFS='|' read -r source target mode <<<"$volume"
  mount --bind "$source" ".$target"
  if [ "$mode" = ro ]; then mount -o remount,bind,ro ".$target"; fi
done
hostname "$NAME"
ip link set lo up
exec chroot . setpriv --reuid="$ID" --regid="$ID" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
  env -i -C "$FOLDER" "$@"
`;

/**
 * Runs what a container engine would, as a process of a machine: the files of the image, with the volumes in their places; no
 * capabilities; a user, host name and process number 1 of its own.
 */
export class Container {
  readonly #options: ContainerOptions;
  readonly #process: ChildProcess;
  readonly #said = { stdout: '', stderr: '' };
  /** Resolves with the exit code, or null after a signal that killed it. */
  readonly exited: Promise<number | null>;

  constructor(machine: Machine, options: ContainerOptions) {
    this.#options = options;
    const { volumes, layers, hostname, user, folder = '/app', isWritable, isAlone } = options;
    const environment = {
      VOLUMES: volumes
        .map(({ source, target, isReadOnly }) => `${source}|${target}|${isReadOnly ? 'ro' : 'rw'}`)
        .join(' '),
      LAYERS: layers.join(':'),
      WRITABLE: isWritable ? ',upperdir=changes,workdir=work' : '',
      NAME: hostname,
      ID: String(user),
      FOLDER: folder,
    };
    const own = ['--mount', '--uts', '--pid', '--fork', '--kill-child', ...(isAlone ? ['--net'] : [])];
    this.#process = machine.spawn(
      ['unshare', ...own, 'bash', '-c', SET_UP, NAME, ...this.#variables(), ...options.command],
      environment,
    );
    for (const name of ['stdout', 'stderr'] as const) {
      this.#process[name]?.on('data', (more: Buffer) => {
        this.#said[name] += more;
      });
    }
    this.exited = once(this.#process, 'close').then(([code]) => code);
  }

  get stdout(): string {
    return this.#said.stdout;
  }

  get stderr(): string {
    return this.#said.stderr;
  }

  /** Its output so far, of both streams. */
  get log(): string {
    return `${this.stdout}${this.stderr}`;
  }

  get hasEnded(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null;
  }

  /** Runs a command in it, as a health check does. */
  async exec(command: readonly string[]): Promise<Output> {
    const pid = await this.#pid();
    const { user, folder = '/app' } = this.#options;
    const child = spawn(
      'nsenter',
      [
        ...['-t', String(pid), '-m', '-n', '-p', '-u', '-r', '-w', 'setpriv', `--reuid=${user}`, `--regid=${user}`],
        ...['--clear-groups', 'env', '-i', '-C', folder, ...this.#variables(), ...command],
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const texts = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].on('data', (more: Buffer) => {
        texts[name] += more;
      });
    }
    const [code] = await once(child, 'close');
    return { code, ...texts };
  }

  /** Sends a signal to its process number 1, as an engine does. @returns the exit code */
  async end(signal: NodeJS.Signals): Promise<number | null> {
    if (!this.hasEnded) process.kill(await this.#pid(), signal);
    return this.exited;
  }

  #variables(): string[] {
    const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
    return Object.entries({ PATH, HOSTNAME: this.#options.hostname, ...this.#options.environment }).map(
      ([name, value]) => `${name}=${value}`,
    );
  }

  /** Returns its process number 1, by the number here, once it runs the command. */
  #pid(): Promise<number> {
    return eventually('the process of the container', () => {
      if (this.hasEnded) throw new Error(`the container has ended: ${this.log}`);
      // nsenter, unshare, and what unshare started.
      const [second] = childrenOf(this.#process.pid ?? 0);
      const [third] = second === undefined ? [] : childrenOf(second);
      const command = third === undefined ? '' : commandOf(third);
      return command === '' || command.includes(NAME) || /^(chroot|setpriv|env)\0/.test(command) ? false : third;
    });
  }
}
