import { execFile } from 'node:child_process';
import { globSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { usualClaim } from '../fetch-cost/plain';
import { endedChildrenCpuMs } from '../harness/processor';

const CLIENTS = 32;
/** Threads of pgbench; the reference machine has two cores. */
const THREADS = 2;
const FOLDERS = [
  '/usr/lib/postgresql/*/bin',
  '/usr/pgsql-*/bin',
  '/usr/local/pgsql/bin',
  '/opt/homebrew/opt/postgresql@*/bin',
];

export interface PgbenchResult {
  readonly transactions: number;
  /** The rate that pgbench reports, without the time to connect. */
  readonly perSecond: number;
  readonly latencyMs: number;
  readonly cpuMs: number;
}

/** Returns the path of pgbench. @throws if it is not installed; the message says what to install */
export function findPgbench(): string {
  const onPath = (process.env.PATH ?? '').split(delimiter).map((folder) => join(folder, 'pgbench'));
  const [found] = globSync([...onPath, ...FOLDERS.map((folder) => join(folder, 'pgbench')).reverse()]);
  if (found) return found;
  throw new Error(
    'pgbench was not found on PATH or in the usual folders of PostgreSQL. On Debian: sudo apt-get install -y postgresql',
  );
}

/** Returns the user id of a target that pgbench can choose by number. */
export const targetId = (number: number): string => `00000000-0000-4000-8000-${100_000_000_000 + number}`;

/**
 * Runs pgbench with one plain claim of one coin per transaction, each for a random target. The plain claim is the
 * prepared statement of a service whose only promise is that no coin is handed out twice. pgbench reads the key bytes
 * and drops them.
 */
export async function pgbench(
  url: string,
  load: { readonly targets: number; readonly category: number; readonly seconds: number },
): Promise<PgbenchResult> {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-pgbench-'));
  try {
    const script = join(folder, 'claim.sql');
    const claim = usualClaim(1)
      .replace('$1', `('00000000-0000-4000-8000-' || (100000000000 + :target)::text)::uuid`)
      .replace('$2', String(load.category))
      .replace('$3', `'${targetId(0)}'`);
    writeFileSync(script, `\\set target random(1, ${load.targets})\n${claim};\n`);
    const args = ['-n', '-M', 'prepared', '-c', CLIENTS, '-j', THREADS, '-T', load.seconds, '-f', script, url];
    const before = endedChildrenCpuMs();
    const { stdout } = await promisify(execFile)(findPgbench(), args.map(String));
    const number = (pattern: RegExp): number => {
      const [, text] = pattern.exec(stdout) ?? [];
      if (text === undefined) throw new Error(`the output of pgbench does not match ${pattern}: ${stdout}`);
      return Number(text);
    };
    return {
      transactions: number(/transactions actually processed: (\d+)/),
      perSecond: number(/tps = ([\d.]+)/),
      latencyMs: number(/latency average = ([\d.]+) ms/),
      cpuMs: endedChildrenCpuMs() - before,
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
