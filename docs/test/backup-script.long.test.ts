import { execFileSync, spawnSync } from 'node:child_process';
import { globSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
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
    env: { PATH: `${bin}:/usr/bin:/bin`, BACKUP_URL: cluster.url('postgres'), ...env },
  });

test('a copy that deploy/backup.sh made of a running PostgreSQL starts, with everything in it', async () => {
  await cluster.query('CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n', 'postgres');
  const { status, stdout, stderr } = backup();
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
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
  mkdirSync(join(folder, 'bin'));
  writeFileSync(join(folder, 'bin/pg_verifybackup'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
  expect(backup({ PATH: `${join(folder, 'bin')}:${bin}:/usr/bin:/bin` }).status).toBe(1);
  expect(folders()).toEqual([left]);
});
