import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommand } from '../../../../testkit/command';
import { eventually } from '../../../../testkit/eventually';
import { freePorts } from '../../../../testkit/free-port';
import { Cluster } from '../../../../testkit/postgres-cluster';
import { spawnMain } from '../../../../testkit/service-process';

test('a service whose database was exchanged says so to "aqm admin fence status" and "aqm doctor"', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-exchanged-'));
  const cluster = new Cluster(join(folder, 'cluster'));
  await cluster.init();
  await cluster.start(['fsync=on']);
  for (const name of ['aqm', 'other']) await cluster.query(`CREATE DATABASE ${name}`, 'postgres');
  expect(await runCommand('migrate', [], { DATABASE_URL: cluster.url('other') })).toMatchObject({ code: 0 });
  const env = {
    DATABASE_URL: cluster.url('aqm'),
    AQM_FENCE_DIR: join(folder, 'fence'),
    AQM_DATA_DIR: join(folder, 'data'),
    AQM_LISTEN: `127.0.0.1:${(await freePorts(1))[0]}`,
  };
  const status = () => runCommand('admin', ['fence', 'status'], env);
  expect((await status()).stdout).not.toContain('service:');

  let service = await spawnMain(env.AQM_DATA_DIR, env);
  expect(await status()).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^service: the service at \S+ serves$/m),
  });

  await cluster.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ('aqm', 'other')",
    'postgres',
  );
  const rename = (from: string, to: string) =>
    eventually(`${from} becomes ${to}`, async () => {
      await cluster.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'aqm'", 'postgres');
      return cluster.query(`ALTER DATABASE ${from} RENAME TO ${to}`, 'postgres').then(
        () => true,
        () => false,
      );
    });
  await rename('aqm', 'former');
  await rename('other', 'aqm');
  await eventually('the service is fenced', async () => (await status()).code === 3);
  const fenced = await status();
  // Taken alone, this database is sound: only the service knows that it was another one.
  expect(fenced.stdout).toMatch(/^fence: open$/m);
  expect(fenced.stdout).toMatch(
    /^service: the service at \S+ is fenced \(OTHER_DATABASE\): it started with another database than this one; if DATABASE_URL is meant/m,
  );
  const json = await runCommand('admin', ['fence', 'status', '--json'], env);
  expect(JSON.parse(json.stdout)).toMatchObject({
    state: 'open',
    service: { address: env.AQM_LISTEN, state: 'not serving', fenceReason: 'OTHER_DATABASE', error: null },
  });
  const doctor = await runCommand('doctor', ['--least-free', '0'], env);
  expect(doctor.code).toBe(1);
  expect(doctor.stdout).toMatch(
    /^fail +service +.*OTHER_DATABASE.*\n +-> if DATABASE_URL is meant .* restart every service/m,
  );

  expect(await service.end('SIGTERM')).toBe(0);
  service = await spawnMain(env.AQM_DATA_DIR, env);
  expect(await status()).toMatchObject({ code: 0 });
  await service.stop();
  await cluster.stop();
  rmSync(folder, { recursive: true });
}, 120_000);
