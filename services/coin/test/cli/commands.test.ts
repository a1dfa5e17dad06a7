import { createPublicKey, randomUUID } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommand } from '../../../../testkit/command';
import { NO_RULES } from '../../../../testkit/service';
import { readConfig } from '../../config';
import { developmentKey } from '../../identity/development-key';
import { fixedKey } from '../../identity/token-keys';
import { verifyWith } from '../../identity/verify-token';

let dataDir: string;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'aqm-commands-'));
});
afterEach(() => rmSync(dataDir, { recursive: true }));

const token = (...args: string[]) => runCommand('token', args, { AQM_DATA_DIR: dataDir });

describe('token', () => {
  const verify = (text: string, now = new Date()) =>
    verifyWith(fixedKey(createPublicKey(developmentKey(dataDir).privateKey)), NO_RULES, () => now)(text);

  test('prints one token a line and nothing else', async () => {
    const users = [randomUUID(), randomUUID().toUpperCase()];
    const { code, stdout, stderr } = await token('--user', users[0] ?? '', '--user', users[1] ?? '');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const lines = stdout.trimEnd().split('\n');
    const callers = await Promise.all(lines.map((line) => verify(line)));
    expect(callers).toEqual(users.map((user) => ({ userId: user.toLowerCase(), isAdmin: false })));
  });

  test('--admin gives the scope, --ttl the life', async () => {
    const { stdout } = await token('--user', randomUUID(), '--admin', '--ttl', '90s');
    const text = stdout.trim();
    expect(await verify(text)).toMatchObject({ isAdmin: true });
    await expect(verify(text, new Date(Date.now() + 91_000))).rejects.toMatchObject({ reason: 'TOKEN_EXPIRED' });
  });

  test('--json names the user of each, and their end', async () => {
    const user = randomUUID();
    const { stdout } = await token('--user', user, '--ttl', '10m', '--json');
    const { tokens, expires } = JSON.parse(stdout);
    expect(tokens).toEqual([{ userId: user, token: expect.any(String) }]);
    expect(await verify(tokens[0].token)).toMatchObject({ userId: user });
    expect(Date.parse(expires)).toBeGreaterThan(Date.now());
  });

  test.each([
    ['no user', [], 'At least one --user is needed'],
    ['a user that is no UUID', ['--user', 'bob'], '"bob" is not a UUID'],
    ['a life that is none', ['--user', randomUUID(), '--ttl', 'long'], '"long" is not'],
    ['an unknown option', ['--root'], '--root'],
  ])('%s ends with exit code 2 and a sentence', async (_what, args, sentence) => {
    const { code, stdout, stderr } = await token(...args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(sentence);
    expect(stderr).not.toContain('    at ');
  });

  test('many at once agree on one development key, readable by its owner only', async () => {
    const answers = await Promise.all(Array.from({ length: 8 }, () => token('--user', randomUUID())));
    for (const { stdout } of answers) await verify(stdout.trim());
    expect(readdirSync(dataDir)).toEqual(['development-key.pem']);
    expect(statSync(join(dataDir, 'development-key.pem')).mode & 0o777).toBe(0o600);
  });
});

describe('settings', () => {
  test('defaults', () => {
    expect(readConfig({})).toMatchObject({
      host: '127.0.0.1',
      port: 50051,
      databaseUrl: undefined,
      fetchGraceSeconds: 3600,
      stockLimit: 1000,
    });
  });

  test.each([
    [{ AQM_LISTEN: '50051' }, 'AQM_LISTEN must be host:port'],
    [{ AQM_LISTEN: '127.0.0.1:70000' }, 'AQM_LISTEN must be host:port'],
    [{ AQM_LISTEN: '0.0.0.0:50051' }, 'the development key is for loopback only'],
    [{ AQM_LISTEN: 'coins.example.org:50051' }, 'the development key is for loopback only'],
    [{ DATABASE_URL: 'mysql://x' }, 'DATABASE_URL must begin with postgresql://'],
    [{ AQM_READ_DATABASE_URL: 'mysql://x' }, 'AQM_READ_DATABASE_URL must begin with postgresql://'],
    [{ AQM_FETCH_GRACE: '0' }, 'AQM_FETCH_GRACE must be a whole number from 1 to 604800'],
    [{ AQM_FETCH_GRACE: '1.5' }, 'AQM_FETCH_GRACE must be a whole number'],
    [{ AQM_LOG_LEVEL: 'loud' }, 'AQM_LOG_LEVEL must be one of'],
    [{ AQM_TOKEN_PUBLIC_KEY_FILE: 'a', AQM_TOKEN_JWKS_URL: 'https://b' }, 'exclude each other'],
    [{ AQM_TOKEN_JWKS_URL: 'http://keys.example.org' }, 'AQM_TOKEN_JWKS_URL must begin with https://'],
    [{ AQM_TOKEN_JWKS_URL: 'keys' }, 'AQM_TOKEN_JWKS_URL must begin with https://'],
    [{ AQM_LISTEN: '0.0.0.0:1', AQM_TOKEN_JWKS_URL: 'https://b' }, 'AQM_TLS_CERT_FILE and AQM_TLS_KEY_FILE are needed'],
    [{ AQM_TLS_KEY_FILE: 'a' }, 'AQM_TLS_CERT_FILE and AQM_TLS_KEY_FILE need each other'],
    [{ AQM_TLS_CLIENT_CA_FILE: 'a' }, 'AQM_TLS_CLIENT_CA_FILE needs'],
    [{ AQM_LIMITS: 'no' }, 'AQM_LIMITS must be one of on, off'],
    [
      { AQM_LIMIT_PER_PAIR: '60/19' },
      'AQM_LIMIT_PER_PAIR must be coins an hour and, after a slash, how many at once (20 or more)',
    ],
    [{ AQM_LIMIT_PER_UPLOADER: 'many' }, 'AQM_LIMIT_PER_UPLOADER must be coins an hour'],
    [{ WORKERS: '0' }, 'WORKERS must be a whole number from 1 to 64'],
    [{ WORKERS: '2' }, 'WORKERS=2 are processes that must share their limits'],
    [{ AQM_POOLER: 'session' }, 'AQM_POOLER must be one of none, transaction'],
    [{ AQM_POOLER: 'transaction' }, 'AQM_POOLER needs DATABASE_URL'],
    [{ AQM_CONNECT_TIMEOUT_MS: '0' }, 'AQM_CONNECT_TIMEOUT_MS must be a whole number from 10'],
    [{ AQM_IDLE_IN_TRANSACTION_TIMEOUT_MS: '0' }, 'AQM_IDLE_IN_TRANSACTION_TIMEOUT_MS must be a whole number from 100'],
    [{ AQM_PLAINTEXT: 'yes' }, 'AQM_PLAINTEXT must be one of loopback, anywhere'],
    [{ AQM_TOKEN_CLOCK_SKEW: '601' }, 'AQM_TOKEN_CLOCK_SKEW must be a whole number from 0 to 600'],
  ])('%j is refused with a sentence', (env, sentence) => {
    expect(() => readConfig(env)).toThrow(sentence);
  });

  test('a pooler in transaction mode gets no named statements unless it is said to know them', () => {
    const prepared = (env: NodeJS.ProcessEnv) =>
      readConfig({ DATABASE_URL: 'postgresql://pooler/aqm', ...env }).preparedStatements;
    expect(prepared({})).toBe(true);
    expect(prepared({ AQM_POOLER: 'transaction' })).toBe(false);
    expect(prepared({ AQM_POOLER: 'transaction', AQM_PREPARED_STATEMENTS: 'on' })).toBe(true);
  });

  test('everything wrong is said at once', () => {
    expect(() => readConfig({ AQM_LISTEN: 'x', AQM_FETCH_GRACE: 'x' })).toThrow(/AQM_LISTEN.*\n.*AQM_FETCH_GRACE/);
  });

  test.each([
    [
      { DATABASE_URL: 'postgresql://127.0.0.1:1/aqm' },
      1,
      'The database of DATABASE_URL cannot be reached: connect ECONNREFUSED',
    ],
    [{ AQM_LISTEN: '0.0.0.0:0' }, 2, 'the development key is for loopback only'],
    [{ AQM_TLS_CERT_FILE: '/nowhere', AQM_TLS_KEY_FILE: '/nowhere' }, 2, 'The files of AQM_TLS_… cannot be used'],
    [{ AQM_TOKEN_PUBLIC_KEY_FILE: '/nowhere' }, 2, 'AQM_TOKEN_PUBLIC_KEY_FILE must name a PEM, JWK or JWK Set'],
  ])('the service with %j ends with exit code %i and a sentence', async (env, expected, sentence) => {
    const { code, stdout, stderr } = await runCommand('serve', [], {
      AQM_DATA_DIR: dataDir,
      AQM_LOG_LEVEL: 'silent',
      ...env,
    });
    expect({ code, stdout }).toEqual({ code: expected, stdout: '' });
    expect(stderr).toContain(sentence);
    expect(stderr).not.toContain('    at ');
  });
});
