import { execFileSync, spawnSync } from 'node:child_process';
import { globSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { Cluster } from '../../testkit/postgres-cluster';
import { ROOT } from '../../testkit/root';

/** Debian's PostgreSQL of any version, because no npm package has pg_basebackup. */
const bin = dirname(globSync('/usr/lib/postgresql/*/bin/pg_basebackup').sort().at(-1) ?? '');
const binaries = { initdb: join(bin, 'initdb'), postgres: join(bin, 'postgres') };

let folder: string;
let cluster: Cluster;
let restored: Cluster;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-backup-'));
  cluster = new Cluster(join(folder, 'cluster'), { binaries });
  restored = new Cluster(join(folder, 'restored'), { binaries });
  await cluster.init();
  await cluster.start();
});
afterAll(async () => {
  await cluster.stop();
  await restored.stop();
  rmSync(folder, { recursive: true });
});

const backup = (env: NodeJS.ProcessEnv = {}) =>
  spawnSync(join(ROOT, 'deploy/backup.sh'), [join(folder, 'backups')], {
    encoding: 'utf8',
    // Debian has psql in /usr/bin, and the other programs below /usr/lib/postgresql only.
    env: { PATH: '/usr/bin:/bin', BACKUP_URL: cluster.url('postgres'), ...env },
  });

test('a copy that deploy/backup.sh made of a running PostgreSQL starts, with everything in it', async () => {
  await cluster.query('CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n', 'postgres');
  const { status, stdout, stderr } = backup();
  const major = basename(dirname(bin));
  expect({ status, stderr }).toEqual({
    status: 0,
    stderr: expect.stringContaining(`server PostgreSQL ${major}, pg_base`),
  });
  expect(stderr).toContain(` in ${bin}\n`);
  const [copy] = readdirSync(join(folder, 'backups'));
  expect(stdout).toBe(`${join(folder, 'backups', copy ?? '')}\n`);

  mkdirSync(restored.folder);
  execFileSync('cp', ['-a', stdout.trim(), restored.data]);
  // PostgreSQL runs as the owner of its folder, which root is not.
  const { uid, gid } = statSync(cluster.data);
  execFileSync('chown', ['-R', `${uid}:${gid}`, restored.data]);
  await restored.start();
  expect(await restored.query('SELECT count(*) FROM kept', 'postgres')).toBe('1000');
});

test('KEEP limits the copies to the newest; a copy that fails leaves nothing', () => {
  const folders = () => readdirSync(join(folder, 'backups')).sort();
  const before = folders();
  for (const old of ['20010101T000000Z', '20020101T000000Z']) mkdirSync(join(folder, 'backups', old));
  const { status, stdout } = backup({ KEEP: '1' });
  expect(status).toBe(0);
  const [left, ...others] = folders();
  expect(others).toEqual([]);
  expect(stdout).toBe(`${join(folder, 'backups', left ?? '')}\n`);
  expect(left && left >= (before[0] ?? '')).toBe(true);

  const unreached = backup({ BACKUP_URL: 'postgresql://127.0.0.1:1/postgres' });
  expect(unreached.status).not.toBe(0);
  expect(unreached.stderr).toContain('Connection refused');
  expect(folders()).toEqual([left]);

  // A copy that is complete but does not verify.
  expect(backup({ POSTGRESQL_VERSIONS: versionsWith('pg_verifybackup', 'exit 1') }).status).toBe(1);
  expect(folders()).toEqual([left]);
});

test('programs that are older than the server, or missing, are named, and nothing is written', () => {
  const before = readdirSync(join(folder, 'backups'));
  const old = backup({
    POSTGRESQL_VERSIONS: versionsWith('pg_basebackup', 'echo "pg_basebackup (PostgreSQL) 9.6.24"'),
  });
  expect(old.status).toBe(1);
  expect(old.stderr).toMatch(/the server is PostgreSQL \d+, and pg_basebackup 9 cannot back up a newer server/);
  const none = backup({ POSTGRESQL_VERSIONS: join(folder, 'nothing') });
  expect(none.status).toBe(1);
  expect(none.stderr).toContain('/usr/bin has no pg_verifybackup');
  expect(readdirSync(join(folder, 'backups'))).toEqual(before);
});

/** Makes a folder of versions as Debian's, in which one program does something else. */
function versionsWith(program: string, commands: string): string {
  const versions = mkdtempSync(join(folder, 'versions-'));
  const programs = join(versions, basename(dirname(bin)), 'bin');
  mkdirSync(programs, { recursive: true });
  for (const name of ['pg_basebackup', 'pg_verifybackup']) symlinkSync(join(bin, name), join(programs, name));
  rmSync(join(programs, program));
  writeFileSync(join(programs, program), `#!/bin/sh\n${commands}\n`, { mode: 0o755 });
  return versions;
}
