import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import pino from 'pino';
import { runCommand } from '../../../../testkit/command';
import { Cluster } from '../../../../testkit/postgres-cluster';
import { RedisServer } from '../../../../testkit/redis-server';
import { createDatabase, databaseUrl, MIGRATIONS, type TestDatabase } from '../../../../testkit/test-database';
import { readConfig } from '../../config';
import { migrateDown } from '../../database/migrate';
import type { Check } from '../../doctor/check';
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
afterEach(async () => {
  await database.drop();
  rmSync(folder, { recursive: true });
});

/** Returns a healthy environment with these changes. Its URL leads past any pooler. */
const environment = (env: NodeJS.ProcessEnv = {}) => ({
  AQM_DATA_DIR: folder,
  DATABASE_URL: databaseUrl(database.name),
  AQM_TOKEN_PUBLIC_KEY_FILE: publicKeyFile(),
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
  const { code, stdout } = await runCommand('doctor', ['--least-free', '0', '--json'], environment());
  const { verdict, checks } = JSON.parse(stdout);
  expect({ code, verdict }).toEqual({ code: 0, verdict: 'ok' });
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
  while ((await checksWith(env)).limits?.found !== 'the Redis of the rate limits answers');
  await redis.destroy();
  expect(await failing(env)).toEqual(['limits']);
  expect((await checksWith({ AQM_LIMITS: 'off' })).limits?.verdict).toBe('warn');
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
