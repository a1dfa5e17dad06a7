import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { CallError } from '../../../../testkit/call';
import { BRONZE, ids, mint } from '../../../../testkit/coins';
import { logMessages, runCommand } from '../../../../testkit/command';
import { PgBouncer } from '../../../../testkit/pgbouncer';
import { Cluster } from '../../../../testkit/postgres-cluster';
import { type ServiceProcess, spawnMain } from '../../../../testkit/service-process';
import { databaseSettings, MIGRATIONS } from '../../../../testkit/test-database';
import { User } from '../../../../testkit/user';
import { migrateDown, migrateUp } from '../../database/migrate';
import { openDatabase } from '../../database/pool';
import { developmentKey, issueToken } from '../../identity/development-key';

/**
 * PgBouncer in transaction mode, as deployed, in front of a PostgreSQL whose role has no timeouts
 * yet.
 */
let folder: string;
let cluster: Cluster;
let pgbouncer: PgBouncer;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-pooler-'));
  cluster = new Cluster(join(folder, 'cluster'));
  await cluster.init();
  await cluster.start(['fsync=on']);
  await cluster.query('CREATE DATABASE aqm', 'postgres');
  pgbouncer = await PgBouncer.start(join(folder, 'pgbouncer'), cluster.socketFolder);
});
afterAll(async () => {
  await pgbouncer.stop();
  await cluster.stop();
  rmSync(folder, { recursive: true, force: true });
});

const env = (): NodeJS.ProcessEnv => ({
  DATABASE_URL: pgbouncer.url('aqm'),
  AQM_POOLER: 'transaction',
  AQM_DATA_DIR: join(folder, 'service'),
  AQM_LISTEN: '127.0.0.1:0',
});
const settings = () => ({
  ...databaseSettings('aqm'),
  connectionString: pgbouncer.url('aqm'),
  pooler: 'transaction' as const,
  preparedStatements: false,
});

test('migrations leave no lock behind with a connection of the pooler', async () => {
  const db = openDatabase(settings(), () => {});
  try {
    await migrateUp(db, MIGRATIONS);
    await migrateDown(db, MIGRATIONS);
    await migrateUp(db, MIGRATIONS);
    expect(await cluster.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")).toBe('0');
  } finally {
    await db.destroy();
  }
});

test('a service without AQM_POOLER exits with one sentence instead of running without timeouts', async () => {
  const { code, stderr } = await runCommand('serve', [], { ...env(), AQM_POOLER: 'none' });
  expect(code).toBe(1);
  expect(logMessages(stderr).split('\n').at(-1)).toBe(
    'The database of DATABASE_URL refuses the connection: unsupported startup parameter: statement_timeout. Set AQM_POOLER=transaction and run "aqm migrate timeouts" once, because a pooler such as PgBouncer refuses start-up parameters in this way.',
  );
});

test('a service exits with the command that helps if the role lacks the timeouts', async () => {
  const refused = await runCommand('serve', [], env());
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain(
    'statement_timeout is 0 ms instead of 5000 ms; lock_timeout is 0 ms instead of 1000 ms',
  );
  expect(logMessages(refused.stderr)).toContain('Run "aqm migrate timeouts"');
  expect(refused.stderr).not.toContain('    at ');

  // They apply to the role in this database only, and to later connections.
  const own = { ...env(), AQM_STATEMENT_TIMEOUT_MS: '4000' };
  expect(await runCommand('migrate', ['timeouts'], own)).toMatchObject({
    code: 0,
    stdout:
      'set: statement_timeout = 4000 ms\nset: lock_timeout = 1000 ms\nset: idle_in_transaction_session_timeout = 5000 ms\n',
  });
  await pgbouncer.command('RECONNECT');
  expect((await runCommand('serve', [], env())).stderr).toContain('statement_timeout is 4000 ms instead of 5000 ms');
  expect(await cluster.query('SHOW statement_timeout')).toBe('4s');
  expect(await cluster.query('SHOW statement_timeout', 'postgres')).toBe('0');
});

describe('behind a PgBouncer that ignores the timeouts, a service without AQM_POOLER', () => {
  const IGNORED = 'statement_timeout,lock_timeout,idle_in_transaction_session_timeout';
  let ignoring: PgBouncer;
  const start = async (settings: Readonly<Record<string, string>>) => {
    const place = mkdtempSync(join(folder, 'ignoring-'));
    const all = { ignore_startup_parameters: IGNORED, ...settings };
    ignoring = await PgBouncer.start(place, cluster.socketFolder, all);
  };
  afterEach(() => ignoring.stop());
  const serve = (own: NodeJS.ProcessEnv = {}) =>
    runCommand('serve', [], { ...env(), AQM_POOLER: 'none', DATABASE_URL: ignoring.url('aqm'), ...own });
  const check = async (wanted: string, own: NodeJS.ProcessEnv = {}) => {
    const { stdout } = await runCommand('doctor', ['--json', '--least-free', '0'], {
      ...env(),
      AQM_POOLER: 'none',
      DATABASE_URL: ignoring.url('aqm'),
      ...own,
    });
    return JSON.parse(stdout).checks.find(({ name }: { name: string }) => name === wanted);
  };

  test('does not start in session mode, where no timeout would be in force', async () => {
    await cluster.query('ALTER ROLE postgres IN DATABASE aqm RESET ALL');
    await start({ pool_mode: 'session' });
    const { code, stderr } = await serve();
    expect(code).toBe(1);
    expect(stderr).toContain(
      'DATABASE_URL leads to a pooler that ignores the timeouts of the service (statement_timeout is 0 ms instead of 5000 ms',
    );
    expect(stderr).not.toContain('    at ');
    expect(await check('pooler')).toMatchObject({ verdict: 'fail', found: expect.stringContaining('ignores') });
    // The replica is optional, but one without timeouts would block the counts.
    const urls = { DATABASE_URL: cluster.url(), AQM_READ_DATABASE_URL: ignoring.url('aqm') };
    expect(await check('replica', urls)).toMatchObject({
      verdict: 'fail',
      found: 'behind a pooler that ignores the timeouts of the service',
    });
    const replica = await serve(urls);
    expect(replica.code).toBe(1);
    expect(replica.stderr).toContain('AQM_READ_DATABASE_URL leads to a pooler that ignores the timeouts');
  });

  test('does not start in transaction mode, even if the role has the timeouts', async () => {
    await runCommand('migrate', ['timeouts'], env());
    await start({ pool_mode: 'transaction' });
    const { code, stderr } = await serve();
    expect(code).toBe(1);
    expect(stderr).toContain('DATABASE_URL leads to a pooler in transaction mode. Set AQM_POOLER=transaction');
    expect(await check('pooler')).toMatchObject({ verdict: 'fail', advice: expect.stringContaining('AQM_POOLER') });
  });
});

describe('a service behind PgBouncer', () => {
  let service: ServiceProcess;
  let bob: User;
  let alice: User;

  beforeEach(async () => {
    await runCommand('migrate', ['timeouts'], env());
    await pgbouncer.command('RECONNECT');
    service = await spawnMain(join(folder, 'service'), env());
    const user = async () => {
      const userId = randomUUID();
      const { privateKey } = developmentKey(join(folder, 'service'));
      const token = await issueToken(privateKey, { userId, isAdmin: false, ttlSeconds: 600, now: new Date() });
      return new User(service.address, userId, token);
    };
    [bob, alice] = [await user(), await user()];
  });
  afterEach(async () => {
    for (const user of [bob, alice]) user.close();
    await service.stop();
  });

  const one = () => ({ targetUserId: bob.id, coinCategory: BRONZE, count: 1, requestId: randomUUID() });

  /**
   * Repeats one fetch, with its request id, until it is answered or refused for another reason than
   * the outage.
   */
  async function fetchThrough(): Promise<string> {
    const request = one();
    for (const giveUp = Date.now() + 180_000; ; await setTimeout(20)) {
      try {
        return ids((await alice.fetch(request, 8000)).coins)[0] ?? 'none';
      } catch (error) {
        const { reason } = error as CallError;
        if (reason !== 'DATABASE_UNAVAILABLE' || Date.now() > giveUp) return reason;
      }
    }
  }

  test('recovers after a crash of the PostgreSQL behind the pooler', async () => {
    const coins = ids(await uploaded(5));
    expect(await fetchThrough()).toBe(coins[0]);
    await cluster.stop('SIGQUIT');
    expect(await alice.fetch(one(), 8000).catch((error: CallError) => error)).toMatchObject({
      code: 'UNAVAILABLE',
      reason: 'DATABASE_UNAVAILABLE',
    });
    await cluster.start(['fsync=on']);
    expect(await fetchThrough()).toBe(coins[1]);
  });

  test('hands out nothing from an older copy that replaces the database behind the pooler', async () => {
    await uploaded(5);
    await fetchThrough();
    await cluster.stop('SIGINT');
    execFileSync('cp', ['-a', cluster.data, `${cluster.data}.copy`]);
    await cluster.start(['fsync=on']);
    expect(await fetchThrough()).not.toBe('none');
    await cluster.stop('SIGINT');
    renameSync(cluster.data, `${cluster.data}.newer`);
    renameSync(`${cluster.data}.copy`, cluster.data);
    await cluster.start(['fsync=on']);
    expect(await fetchThrough()).toBe('FENCED');
  });

  async function uploaded(count: number) {
    const coins = mint(count);
    await bob.upload(coins);
    return coins;
  }
});
