import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream';
import { sql } from 'kysely';
import pino from 'pino';
import { runCommand } from '../../../../testkit/command';
import { freePorts } from '../../../../testkit/free-port';
import { Cluster } from '../../../../testkit/postgres-cluster';
import { RedisServer } from '../../../../testkit/redis-server';
import { createDatabase, databaseUrl, MIGRATIONS, type TestDatabase } from '../../../../testkit/test-database';
import { readConfig } from '../../config';
import { migrateDown } from '../../database/migrate';
import type { Check } from '../../doctor/check';
import { checkEncryption } from '../../doctor/encryption';
import { examine } from '../../doctor/examine';
import { Fence } from '../../fence/fence';
import { CertificateAuthority } from '../transport/certificate-authority';

const DAY_MS = 86_400_000;

let folder: string;
let database: TestDatabase;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-doctor-'));
  database = await createDatabase();
});
const roles: string[] = [];
afterEach(async () => {
  for (const role of roles.splice(0)) {
    await sql.raw(`DROP OWNED BY ${role}; DROP ROLE ${role}`).execute(database.db);
  }
  await database.drop();
  rmSync(folder, { recursive: true });
});

/** Returns a healthy environment with these changes. Its URL leads past any pooler. */
const environment = (env: NodeJS.ProcessEnv = {}) => ({
  AQM_DATA_DIR: folder,
  DATABASE_URL: databaseUrl(database.name),
  AQM_TOKEN_PUBLIC_KEY_FILE: publicKeyFile(),
  // A service that is not of this test may run at the usual port.
  AQM_LISTEN: '127.0.0.1:0',
  ...env,
});

async function checksWith(
  env: NodeJS.ProcessEnv = {},
  options: { now?: () => Date; leastFreeMib?: number } = {},
): Promise<Record<string, Check>> {
  const config = readConfig(environment(env));
  const checks = await examine(config, { now: () => new Date(), leastFreeMib: 0, ...options });
  return Object.fromEntries(checks.map((check) => [check.name, check]));
}

/** Returns the names of the failed checks. */
async function failing(...args: Parameters<typeof checksWith>): Promise<string[]> {
  const checks = Object.values(await checksWith(...args));
  for (const { verdict, found, advice } of checks) {
    expect(found.length).toBeGreaterThan(0);
    expect(advice === null).toBe(verdict === 'ok');
  }
  return checks.filter(({ verdict }) => verdict === 'fail').map(({ name }) => name);
}

/** Creates a role that is no superuser and may use the database. @returns the URL of the database with it */
async function urlOfRole(): Promise<string> {
  const role = `doctor_${randomUUID().slice(0, 8)}`;
  await sql.raw(`CREATE ROLE ${role} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO ${role}`).execute(database.db);
  roles.push(role);
  const url = databaseUrl(database.name);
  return /user=/.test(url) ? url.replace(/user=[^&]*/, `user=${role}`) : url.replace(/\/\/[^@/]*@/, `//${role}@`);
}

/** Returns an address of this machine at which nothing listens. */
const freeAddress = async () => `127.0.0.1:${(await freePorts(1))[0]}`;

function publicKeyFile(): string {
  const path = join(folder, 'public-key.pem');
  const { publicKey } = generateKeyPairSync('ed25519');
  writeFileSync(path, publicKey.export({ type: 'spki', format: 'pem' }));
  return path;
}

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

test('in a healthy installation nothing fails, the exit code is 0, and every check is listed', async () => {
  const env = environment({
    DATABASE_URL: await urlOfRole(),
    AQM_MAX_CONNECTIONS: '100',
    AQM_LISTEN: await freeAddress(),
  });
  const { code, stdout, stderr } = await runCommand('doctor', ['--least-free', '0', '--json'], env);
  const { checks } = JSON.parse(stdout);
  expect(stderr).toMatch(/^database: doctor_\w+@/);
  // The PostgreSQL of the tests has no archive.
  const others = checks.filter(({ verdict, name }: Check) => verdict !== 'ok' && name !== 'archiving');
  expect({ code, others }).toEqual({ code: 0, others: [] });
  expect(checks.map(({ name }: Check) => name).sort()).toEqual(
    [
      ...[
        'node',
        'tokens',
        'tls',
        'disk',
        'limits',
        'connection',
        'postgresql',
        'primary',
        'durability',
        'isolation',
        'clock',
      ],
      ...['descriptors', 'role', 'connections', 'server-log', 'archiving', 'encryption', 'service'],
      ...['schema', 'autovacuum', 'watermark-place', 'fence', 'watermark'],
    ].sort(),
  );
});

test('a failed check means exit code 1, in text and in JSON, and says what to do', async () => {
  const env = environment({ AQM_TOKEN_PUBLIC_KEY_FILE: join(folder, 'nowhere.pem') });
  const text = await runCommand('doctor', ['--least-free', '0'], env);
  expect(text.code).toBe(1);
  expect(text.stdout).toMatch(/^fail {2}tokens .*nowhere\.pem cannot be used: ENOENT/m);
  expect(text.stdout).toMatch(/^ +-> set AQM_TOKEN_PUBLIC_KEY_FILE to a PEM/m);
  const wrong = await runCommand('doctor', ['--json'], environment({ AQM_LISTEN: 'here', AQM_WORKERS: 'many' }));
  expect(wrong.code).toBe(1);
  expect(JSON.parse(wrong.stdout).checks.map(({ name, verdict }: Check) => [name, verdict])).toEqual([
    ['settings', 'fail'],
    ['settings', 'fail'],
  ]);
});

test('an empty data folder is not a failure, and stays empty', async () => {
  const checks = await checksWith({
    DATABASE_URL: '',
    AQM_TOKEN_PUBLIC_KEY_FILE: '',
    AQM_DATA_DIR: join(folder, 'new'),
  });
  expect(checks.connection).toMatchObject({ verdict: 'warn', advice: expect.stringContaining('aqm serve') });
  expect(checks.tokens).toMatchObject({ verdict: 'warn' });
  expect(() => mkdirSync(join(folder, 'new'))).not.toThrow();
});

describe('settings of the database', () => {
  test.each([
    ['synchronous_commit', 'off', 'durability'],
    ['synchronous_commit', 'local', 'durability'],
    ['default_transaction_isolation', 'repeatable read', 'isolation'],
    ['track_counts', 'off', 'autovacuum'],
  ])('%s = %s fails %s', async (setting, value, check) => {
    await sql`ALTER DATABASE ${sql.id(database.name)} SET ${sql.id(setting)} = ${sql.lit(value)}`.execute(database.db);
    expect(await failing()).toEqual([check]);
  });

  test('autovacuum off for one table fails; settings that differ from the migrations are a warning', async () => {
    await sql`ALTER TABLE coin_stock RESET (autovacuum_vacuum_scale_factor)`.execute(database.db);
    expect((await checksWith()).autovacuum).toMatchObject({
      verdict: 'warn',
      advice: expect.stringContaining('ALTER TABLE coin_stock SET (autovacuum_vacuum_scale_factor=0.02'),
    });
    await sql`ALTER TABLE coin_fetch SET (autovacuum_enabled = off)`.execute(database.db);
    expect((await checksWith()).autovacuum).toMatchObject({ verdict: 'fail', found: 'off for coin_fetch' });
  });

  test('behind a pooler, timeouts that the role does not have fail until "aqm migrate timeouts" is run', async () => {
    const env = { AQM_POOLER: 'transaction', AQM_STATEMENT_TIMEOUT_MS: '4321' };
    expect(await failing(env)).toEqual(['timeouts']);
    expect(await runCommand('migrate', ['timeouts'], environment(env))).toMatchObject({ code: 0 });
    expect(await failing(env)).toEqual([]);
  });

  test('an older schema and a newer schema fail, an empty database is a warning', async () => {
    await sql`INSERT INTO kysely_migration (name, timestamp) VALUES ('9999_from_the_future', '')`.execute(database.db);
    expect(await failing()).toEqual(['schema']);
    await sql`DELETE FROM kysely_migration WHERE name = '9999_from_the_future'`.execute(database.db);
    await migrateDown(database.db, MIGRATIONS);
    expect(await failing()).toEqual(['schema']);
    let undone: string[];
    do undone = await migrateDown(database.db, MIGRATIONS);
    while (undone.length > 0);
    expect((await checksWith()).schema).toMatchObject({ verdict: 'warn', found: 'the database is empty' });
  });

  test('a database that cannot be reached fails, and its password is not shown', async () => {
    const checks = await checksWith({ DATABASE_URL: 'postgresql://aqm:hush-hush@127.0.0.1:1/aqm' });
    expect(checks.connection).toMatchObject({ verdict: 'fail', found: expect.stringContaining('ECONNREFUSED') });
    expect(JSON.stringify(checks)).not.toContain('hush');
  });
});

describe('the surroundings of the database', () => {
  const set = (setting: string, value: string) =>
    sql`ALTER DATABASE ${sql.id(database.name)} SET ${sql.id(setting)} = ${sql.lit(value)}`.execute(database.db);

  test('a superuser is a warning, another role is none', async () => {
    expect((await checksWith()).role).toMatchObject({
      verdict: 'warn',
      found: expect.stringContaining('is a superuser'),
    });
    expect((await checksWith({ DATABASE_URL: await urlOfRole() })).role).toMatchObject({ verdict: 'ok' });
  });

  test('more connections of one service than PostgreSQL grants are a warning', async () => {
    expect((await checksWith()).connections).toMatchObject({ verdict: 'ok' });
    const env = { AQM_POOL_SIZE: '200', AQM_WORKERS: '4', AQM_LIMITS: 'off' };
    expect((await checksWith(env)).connections).toMatchObject({
      verdict: 'warn',
      found: expect.stringMatching(/^800 connections of one service .* of \d+ that PostgreSQL grants$/),
    });
    const url = await urlOfRole();
    await sql.raw(`ALTER ROLE ${roles[0]} CONNECTION LIMIT 22`).execute(database.db);
    expect((await checksWith({ DATABASE_URL: url })).connections).toMatchObject({
      verdict: 'warn',
      found: expect.stringContaining('of 22 that'),
    });
  });

  test.each([
    [{ log_statement: 'all' }, 'log_statement = all with log_parameter_max_length = -1'],
    [{ log_min_duration_statement: '0' }, 'log_min_duration_statement = 0 with log_parameter_max_length = -1'],
    [{ log_parameter_max_length_on_error: '64' }, 'log_parameter_max_length_on_error = 64'],
  ])('%j is a warning, because the values of statements reach the log', async (settings, found) => {
    expect((await checksWith())['server-log']).toMatchObject({ verdict: 'ok' });
    for (const [name, value] of Object.entries(settings)) await set(name, value);
    expect((await checksWith())['server-log']).toMatchObject({
      verdict: 'warn',
      found: expect.stringContaining(found),
    });
    await set('log_parameter_max_length', '0');
    await set('log_parameter_max_length_on_error', '0');
    expect((await checksWith())['server-log']).toMatchObject({ verdict: 'ok' });
  });

  test('a limit of file descriptors below the number of connections is a warning', async () => {
    expect((await checksWith({ AQM_MAX_CONNECTIONS: '10' })).descriptors).toMatchObject({ verdict: 'ok' });
    const many = await runCommand(
      'doctor',
      ['--json'],
      environment({ AQM_MAX_CONNECTIONS: '1000000', AQM_MAX_CONNECTIONS_PER_ADDRESS: '1' }),
    );
    const limit = Number(/^Max open files +\S+ +(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]);
    const found = JSON.parse(many.stdout).checks.find(({ name }: Check) => name === 'descriptors');
    expect(found).toMatchObject({ verdict: limit >= 1_000_120 ? 'ok' : 'warn' });
  });

  test('what listens at the address of the service and is none is a warning', async () => {
    const other = createServer((_request, response) => response.end()).listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    expect((await checksWith({ AQM_LISTEN: `127.0.0.1:${port}` })).service).toMatchObject({ verdict: 'warn' });
    other.close();
  });
});

describe('another PostgreSQL', () => {
  let cluster: Cluster;
  afterEach(() => cluster.stop());

  test('fsync, full_page_writes and autovacuum off fail; so do a watermark in its data folder and a standby', async () => {
    cluster = new Cluster(join(folder, 'cluster'));
    await cluster.init();
    await cluster.start(['full_page_writes=off', 'autovacuum=off']);
    const env = { DATABASE_URL: cluster.url('postgres'), AQM_FENCE_DIR: join(cluster.data, 'fence') };
    expect(await failing(env)).toEqual(['durability', 'autovacuum', 'watermark-place']);
    expect((await checksWith(env)).durability?.found).toMatch(/^fsync is off; full_page_writes is off/);

    await cluster.stop('SIGINT');
    cluster.addFile('standby.signal', '');
    await cluster.start(['fsync=on']);
    expect(await failing({ ...env, AQM_FENCE_DIR: '' })).toEqual(['primary']);
  });

  test('no archive, an archive that fails and a connection without TLS to another machine are reported', async () => {
    cluster = new Cluster(join(folder, 'cluster'));
    await cluster.init();
    const settings = ['fsync=on', 'archive_mode=on'];
    await cluster.start([...settings, 'archive_command=']);
    const env = { DATABASE_URL: cluster.url('postgres') };
    expect((await checksWith(env)).archiving).toMatchObject({ verdict: 'warn', advice: 'set archive_command' });
    await cluster.stop('SIGINT');

    await cluster.start([...settings, 'archive_command=false']);
    await cluster.query(
      'SELECT pg_switch_wal() FROM (SELECT pg_logical_emit_message(false, $$a$$, $$b$$)) a',
      'postgres',
    );
    await cluster.until('(SELECT failed_count > 0 FROM pg_stat_archiver)');
    expect((await checksWith(env)).archiving).toMatchObject({
      verdict: 'fail',
      found: expect.stringMatching(/^archiving fails: /),
    });
    await cluster.stop('SIGINT');

    await cluster.start([...settings, 'archive_command=true']);
    await cluster.until('(SELECT archived_count > 0 FROM pg_stat_archiver)');
    expect((await checksWith(env)).archiving).toMatchObject({
      verdict: 'ok',
      found: expect.stringContaining('the last is'),
    });
  });

  test('a connection without TLS that leaves this machine is a warning', async () => {
    cluster = new Cluster(join(folder, 'cluster'));
    await cluster.init();
    await cluster.start(['fsync=on']);
    expect((await checksWith({ DATABASE_URL: cluster.url('postgres') })).encryption).toMatchObject({ verdict: 'ok' });
    const door = createTcpServer((socket) => {
      const server = connect(join(cluster.socketFolder, '.s.PGSQL.5432'));
      // doctor may reset its connection instead of ending it.
      pipeline(socket, server, socket, () => {});
    });
    await once(door.listen(0, '0.0.0.0'), 'listening');
    const { port } = door.address() as AddressInfo;
    for (const [host, verdict] of [
      ['127.0.0.1', 'ok'],
      // Every address of this machine; not known to be loopback.
      ['0.0.0.0', 'warn'],
    ]) {
      const url = `postgresql://postgres:hush@${host}:${port}/postgres`;
      const checks = await checksWith({ DATABASE_URL: url, AQM_READ_DATABASE_URL: url });
      expect([host, checks.connection?.verdict, checks.encryption?.verdict]).toEqual([host, 'ok', verdict]);
      expect(checks['replica-encryption']?.verdict).toBe(verdict);
      expect(JSON.stringify(checks)).not.toContain('hush');
    }
    door.close();
  });

  test.each([
    ['sslmode=verify-full', 'ok'],
    ['sslmode=require', 'ok'],
    ['ssl=true', 'ok'],
    ['sslmode=disable', 'warn'],
    ['sslmode=no-verify', 'warn'],
    ['', 'warn'],
  ])('a URL of another machine with "%s": %s', (query, verdict) => {
    const now = () => new Date();
    expect(checkEncryption('encryption', `postgresql://a:b@db.example.org/aqm?${query}`, {}, now).verdict).toBe(
      verdict,
    );
  });

  test('an authority of the database that ends soon is a warning', () => {
    const { certificateFile } = new CertificateAuthority(folder, 'database-ca');
    const url = `postgresql://a:b@db.example.org/aqm?sslmode=verify-full&sslrootcert=${certificateFile}`;
    expect(checkEncryption('encryption', url, {}, () => new Date())).toMatchObject({
      verdict: 'warn',
      found: expect.stringMatching(/^sslrootcert of DATABASE_URL: the certificate of "CN=database-ca" expires at 20/),
    });
  });

  // Only `npm run check` installs the older release.
  test('a PostgreSQL older than 16 fails', async () => {
    const binaries = JSON.parse(process.env.TEST_OLD_BINARIES ?? '{}');
    cluster = new Cluster(join(folder, 'cluster'), { binaries });
    await cluster.init();
    await cluster.start(['fsync=on']);
    const checks = await checksWith({ DATABASE_URL: cluster.url('postgres') });
    expect(checks.postgresql).toMatchObject({
      verdict: 'fail',
      found: expect.stringMatching(/^PostgreSQL 15\..* is too old$/),
    });
  });
});

test.each([
  ['a minute ahead', 60, 'fail'],
  ['a minute behind', -60, 'fail'],
  ['ten seconds ahead', 10, 'warn'],
  ['the same', 0, 'ok'],
])("the clock of this machine compared with the database's: %s", async (_what, seconds, verdict) => {
  const checks = await checksWith({}, { now: () => new Date(Date.now() + seconds * 1000) });
  expect(checks.clock?.verdict).toBe(verdict);
});

test('too little free space on the disk of the data folder fails', async () => {
  expect(await failing({}, { leastFreeMib: 1_000_000_000 })).toEqual(['disk']);
});

test('the Redis of the rate limits is ok while it answers and fails when it is down; limits that are off are a warning', async () => {
  const redis = await RedisServer.startInMemory();
  const env = { AQM_LIMITS_REDIS_URL: redis.socket };
  // Redis creates its socket a moment before it listens.
  while (!(await checksWith(env)).limits?.found.startsWith('the Redis of the rate limits answers, version '));
  await redis.destroy();
  expect(await failing(env)).toEqual(['limits']);
  expect((await checksWith({ AQM_LIMITS: 'off' })).limits?.verdict).toBe('warn');
});

test('a Redis of an older version is a warning', async () => {
  const old = createTcpServer((socket) => {
    socket.on('data', (command: Buffer) => {
      const text = /info/i.test(command.toString()) ? '# Server\r\nredis_version:6.2.14\r\n' : undefined;
      socket.write(text === undefined ? '+OK\r\n' : `$${text.length}\r\n${text}\r\n`);
    });
    socket.on('error', () => {});
  }).listen(0, '127.0.0.1');
  await once(old, 'listening');
  const { port } = old.address() as AddressInfo;
  expect((await checksWith({ AQM_LIMITS_REDIS_URL: `redis://127.0.0.1:${port}` })).limits).toMatchObject({
    verdict: 'warn',
    found: 'the Redis of the rate limits is 6.2.14; the service is tested with 7 and newer',
  });
  old.close();
});

test('a replica that is down, and a URL that does not lead to a replica, are warnings, because the primary counts', async () => {
  for (const [url, found] of [
    ['postgresql://aqm:hush-hush@127.0.0.1:1/aqm', 'ECONNREFUSED'],
    [databaseUrl(database.name), 'not a standby'],
  ]) {
    const { replica } = await checksWith({ AQM_READ_DATABASE_URL: url });
    expect(replica).toMatchObject({ verdict: 'warn', found: expect.stringContaining(found ?? '') });
    expect(replica?.found).not.toContain('hush');
  }
});

describe('token keys', () => {
  let server: Server;
  let answer = { status: 200, body: '' };
  let url: string;
  beforeEach(async () => {
    server = createServer((_request, response) => response.writeHead(answer.status).end(answer.body)).listen(
      0,
      '127.0.0.1',
    );
    await once(server, 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys?secret=hush`;
  });
  afterEach(() => server.close());

  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const jwks = (...keys: object[]) => JSON.stringify({ keys });

  test.each([
    ['a file that is not a key', 'nonsense'],
    ['a broken PEM', '-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n'],
    ['an empty JWK Set', jwks()],
    ['a JWK that cannot be used', jwks({ kty: 'OKP', crv: 'Ed25519' })],
    ['a private key', privateKey.export({ type: 'pkcs8', format: 'pem' }) as string],
    ['a JWK Set with a private key', jwks(privateKey.export({ format: 'jwk' }))],
  ])('%s fails', async (_what, text) => {
    expect(await failing({ AQM_TOKEN_PUBLIC_KEY_FILE: file('key', text) })).toEqual(['tokens']);
  });

  test('a broken development key fails', async () => {
    file('development-key.pem', 'nonsense');
    expect(await failing({ AQM_TOKEN_PUBLIC_KEY_FILE: '' })).toEqual(['tokens']);
  });

  test('a JWK Set that can be fetched is ok; a failed fetch, and a response that is not a JWK Set, fail', async () => {
    const env = { AQM_TOKEN_PUBLIC_KEY_FILE: '', AQM_TOKEN_JWKS_URL: url };
    answer = { status: 200, body: jwks(publicKey.export({ format: 'jwk' })) };
    const healthy = await checksWith(env);
    expect(healthy.tokens?.found).toMatch(/^1 public key in http:\/\/127\.0\.0\.1:\d+\/keys$/);
    for (answer of [
      { status: 500, body: '' },
      { status: 200, body: 'nonsense' },
      { status: 200, body: '{}' },
      { status: 200, body: jwks() },
    ]) {
      expect(await failing(env)).toEqual(['tokens']);
    }
    const { tokens } = await checksWith({ ...env, AQM_TOKEN_JWKS_URL: 'http://127.0.0.1:2/keys?secret=hush' });
    expect(tokens).toMatchObject({ verdict: 'fail', found: expect.stringContaining('ECONNREFUSED') });
    expect(tokens?.found).not.toContain('hush');
  });
});

test('a certificate that expires soon is a warning; an expired one, and the key of another one, fail', async () => {
  const authority = new CertificateAuthority(folder, 'ca');
  const pair = () => {
    const { certificate, key } = authority.issue();
    const name = randomUUID();
    return {
      AQM_TLS_CERT_FILE: file(`${name}.crt`, certificate.toString()),
      AQM_TLS_KEY_FILE: file(`${name}.key`, key.toString()),
    };
  };
  const env = pair();
  expect((await checksWith(env)).tls).toMatchObject({ verdict: 'warn', advice: expect.stringContaining('renew') });
  expect(await failing(env, { now: () => new Date(Date.now() + 3 * DAY_MS) })).toEqual(['tls', 'clock']);
  expect(await failing(env, { now: () => new Date(Date.now() - 3 * DAY_MS) })).toEqual(['tls', 'clock']);
  expect(await failing({ ...env, AQM_TLS_KEY_FILE: pair().AQM_TLS_KEY_FILE })).toEqual(['tls']);
});

test('a certificate in the file of token keys that ends soon is a warning', async () => {
  const authority = new CertificateAuthority(folder, 'issuer');
  expect((await checksWith({ AQM_TOKEN_PUBLIC_KEY_FILE: authority.certificateFile })).tokens).toMatchObject({
    verdict: 'warn',
    found: expect.stringMatching(/the certificate of "CN=issuer" expires at 20/),
  });
});

describe('the fence', () => {
  const openFence = () =>
    Fence.open({ db: database.db, folder: join(folder, 'fence'), poolSize: 1, log: pino({ level: 'silent' }) });

  test('a database that lacks coins of the watermark fails; an activated database without a watermark is a warning', async () => {
    const fence = await openFence();
    expect((await checksWith({ AQM_FENCE_DIR: join(folder, 'elsewhere') })).watermark).toMatchObject({
      verdict: 'warn',
    });
    await fence.run(async (token) => {
      const expireTime = new Date(Date.now() + 20 * DAY_MS);
      await fence.recordHandedOut(token, [{ userId: randomUUID(), keyId: randomUUID(), coinCategory: 1, expireTime }]);
    });
    await fence.close();
    expect(await failing()).toEqual(['fence']);
  });

  test('a watermark that cannot be written fails', async () => {
    expect(await failing({ AQM_FENCE_DIR: file('no-folder', '') })).toEqual(['watermark']);
    // A place where even root cannot create a folder.
    expect(await failing({ AQM_FENCE_DIR: '/proc/aqm-fence' })).toEqual(['watermark']);
  });
});
