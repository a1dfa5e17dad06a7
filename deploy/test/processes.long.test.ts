import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { openDeviceStorage } from '../../device';
import { PgBouncer } from '../../testkit/pgbouncer';
import { ROOT } from '../../testkit/root';
import { databaseUrl, postgresOfRun } from '../../testkit/test-database';
import { healthCheckOf, serviceNamed } from './compose-file';

/** The programs of docker-compose.yml that Debian packages, started and checked for health as plain processes. */

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-compose-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function isHealthy(command: readonly string[]): boolean {
  const [program = '', ...args] = command;
  const { status, error } = spawnSync(program, args, { stdio: 'ignore' });
  if (error) throw error;
  return status === 0;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** Returns the folder of the socket of the test run's PostgreSQL. */
function socketFolder(): string {
  const url = databaseUrl('postgres').replace('///', '//host/');
  return new URL(url).searchParams.get('host') ?? '';
}

beforeAll(postgresOfRun);

describe('redis', () => {
  let redis: ChildProcess;
  let port: number;
  let check: string[];

  beforeAll(async () => {
    port = await freePort();
    check = healthCheckOf('redis', { 6379: `${port}` });
    const command = (serviceNamed('redis').command ?? []).map((word) =>
      word === '/data' ? folder : word.replace('/etc/aqm', join(ROOT, 'deploy')),
    );
    const [program = '', ...args] = command;
    expect(isHealthy(check)).toBe(false);
    // A free port, because other tests run beside this one.
    redis = spawn(program, [...args, '--port', `${port}`, '--bind', '127.0.0.1'], { stdio: 'ignore' });
    while (!isHealthy(check)) expect(redis.exitCode).toBeNull();
  });
  afterAll(() => redis.kill('SIGKILL'));

  test('is durable enough for a device, which opens it without a warning', async () => {
    const warnings: string[] = [];
    const storage = await openDeviceStorage({
      backend: 'redis',
      url: `redis://127.0.0.1:${port}`,
      namespace: 'compose',
      onWarning: ({ code }) => warnings.push(code),
    });
    await storage.close();
    // Depends on the installed redis-server.
    expect(warnings.filter((code) => code !== 'AQM_REDIS_VERSION')).toEqual([]);
    const client = new Redis(port);
    expect(await client.config('GET', 'dir')).toEqual(['dir', folder]);
    client.disconnect();
  });

  test('is unhealthy when it is gone', async () => {
    const ended = once(redis, 'exit');
    redis.kill('SIGTERM');
    await ended;
    expect(isHealthy(check)).toBe(false);
  });
});

test('postgres: healthy while it answers', () => {
  expect(isHealthy(healthCheckOf('postgres', { '127.0.0.1': socketFolder() }))).toBe(true);
  expect(isHealthy(healthCheckOf('postgres', { '127.0.0.1': folder }))).toBe(false);
});

test('pgbouncer: healthy while it answers, with the file that is mounted', async () => {
  const place = join(folder, 'pgbouncer');
  const pgbouncer = await PgBouncer.start(place, socketFolder());
  const check = healthCheckOf('pgbouncer', { '127.0.0.1': place });
  expect(isHealthy(check)).toBe(true);
  await pgbouncer.stop();
  expect(isHealthy(check)).toBe(false);
});
