import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { eventually } from '../../testkit/eventually';

/**
 * The files of this machine below a layer that takes all changes, with a network, host name and processes of its own. /sys holds
 * no more than systemd needs.
 */
const SET_UP = `
set -e
root=$1
mount --make-rprivate /
mount -t tmpfs tmpfs "$root/layer"
mkdir "$root/layer/changes" "$root/layer/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$root/layer/changes,workdir=$root/layer/work" "$root/root"
cd "$root/root"
mount -t proc proc proc
mount -t tmpfs tmpfs sys
mkdir -p sys/fs/cgroup
mount -t tmpfs tmpfs sys/fs/cgroup
mkdir sys/fs/cgroup/unified sys/fs/cgroup/systemd
mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd || true
mount --rbind /dev dev
mount -t tmpfs tmpfs run
ip link set lo up
hostname machine
: > etc/machine-id
shift
for folder in $SHARED; do mount --rbind "$folder" ".$folder"; done
# Not chroot, in which the kernel allows no user namespaces (PrivateUsers=).
pivot_root . .
umount -l .
cd /
exec env -i container=other PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
`;

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export interface Output {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * A machine for one test: what is installed here, with a file system, a network (loopback only), users and processes of its own.
 * Commands run in it as root, as an operator types them, and change nothing here. Needs root on Linux.
 */
export class Machine {
  readonly #folder: string;
  readonly #process: ChildProcess;
  #pid = 0;

  private constructor(folder: string, process: ChildProcess) {
    this.#folder = folder;
    this.#process = process;
  }

  /**
   * @param shared folders that are here too: changes of either side are seen by the other
   * @param first the first process, which must not end: systemd, or one that does nothing
   */
  static async start(shared: readonly string[], first: readonly string[] = ['sleep', 'infinity']): Promise<Machine> {
    const folder = mkdtempSync(join(tmpdir(), 'aqm-machine-'));
    for (const name of ['root', 'layer']) mkdirSync(join(folder, name));
    const own = ['--mount', '--net', '--pid', '--uts', '--ipc', '--cgroup', '--fork', '--kill-child'];
    const child = spawn('unshare', [...own, 'bash', '-c', SET_UP, 'set-up', folder, ...first], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
      env: { ...process.env, SHARED: shared.join(' ') },
    });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (more: Buffer) => {
        said += more;
      });
    }
    const machine = new Machine(folder, child);
    process.once('exit', () => child.kill('SIGKILL'));
    await eventually('the first process of the machine', () => {
      if (child.exitCode !== null) throw new Error(`The machine could not be set up: ${said}`);
      const [pid] = childrenOf(child.pid ?? 0);
      if (pid === undefined || !commandOf(pid).startsWith(first[0] ?? '')) return false;
      machine.#pid = pid;
      return true;
    });
    return machine;
  }

  /** Returns the path here of a file of the machine. */
  path(file: string): string {
    return join('/proc', String(this.#pid), 'root', file);
  }

  write(file: string, text: string, mode = 0o644): void {
    mkdirSync(dirname(this.path(file)), { recursive: true });
    writeFileSync(this.path(file), text, { mode });
  }

  read(file: string): string {
    return readFileSync(this.path(file), 'utf8');
  }

  has(file: string): boolean {
    return existsSync(this.path(file));
  }

  /** Copies a file or folder of this machine to a place in it. */
  copy(from: string, to: string): void {
    cpSync(from, this.path(to), { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
  }

  /** Runs a script in a shell. */
  async run(script: string, env: NodeJS.ProcessEnv = {}): Promise<Output> {
    const child = this.spawn(['bash', '-euo', 'pipefail', '-c', script], env);
    const texts = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name]?.on('data', (more: Buffer) => {
        texts[name] += more;
      });
    }
    const [code] = await once(child, 'close');
    return { code, ...texts };
  }

  /** Runs a script that must succeed. @returns its stdout */
  async do(script: string, env: NodeJS.ProcessEnv = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(script, env);
    if (code !== 0) throw new Error(`exit code ${code} of\n${script}\n${stdout}${stderr}`);
    return stdout;
  }

  /** Starts a program. It sees nothing of the environment here. */
  spawn(command: readonly string[], env: NodeJS.ProcessEnv = {}, options: SpawnOptions = {}): ChildProcess {
    const spaces = ['-m', '-n', '-p', '-u', '-i', '-C', '-r', '-w'];
    return spawn('nsenter', ['-t', String(this.#pid), ...spaces, ...command], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH, HOME: '/root', LANG: 'C.UTF-8', ...env },
      ...options,
    });
  }

  async stop(): Promise<void> {
    const ended = once(this.#process, 'exit');
    // The first process of a process namespace takes all others with it.
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      process.kill(this.#pid, 'SIGKILL');
      await ended;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

export function childrenOf(pid: number): number[] {
  const { stdout } = spawnSync('cat', [`/proc/${pid}/task/${pid}/children`], { encoding: 'utf8' });
  return (stdout ?? '').trim().split(' ').filter(Boolean).map(Number);
}

export function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
