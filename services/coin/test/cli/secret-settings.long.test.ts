import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import pino from 'pino';
import { logMessages, runCommand } from '../../../../testkit/command';
import { Secrets } from '../../../../testkit/secrets';
import { databaseUrl, postgresOfRun } from '../../../../testkit/test-database';
import { keysOfUrl } from '../../identity/token-keys';

const secrets = new Secrets();
const user = secrets.text('a user name');
const password = secrets.text('a password');

let dataDir: string;
beforeAll(postgresOfRun);
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'aqm-settings-'));
});
afterEach(() => rmSync(dataDir, { recursive: true }));

/** The service with this environment ends and prints this text. */
type Row = [what: string, env: NodeJS.ProcessEnv, sentence: string];

const rows: Row[] = [
  ['an unknown host', { DATABASE_URL: `postgresql://aqm:${password}@nowhere.invalid/aqm` }, 'cannot be reached'],
  ['a port without a listener', { DATABASE_URL: `postgresql://aqm:${password}@127.0.0.1:1/aqm` }, 'ECONNREFUSED'],
  ['an invalid port', { DATABASE_URL: `postgresql://aqm:${password}@127.0.0.1:none/aqm` }, 'cannot be parsed'],
  ['a slash in the password', { DATABASE_URL: `postgresql://aqm:${password}/x@127.0.0.1/aqm` }, 'cannot be parsed'],
  ['another scheme', { DATABASE_URL: `mysql://aqm:${password}@127.0.0.1/aqm` }, 'DATABASE_URL must begin with'],
  [
    'a replica without its primary',
    { DATABASE_URL: '', AQM_READ_DATABASE_URL: `postgresql://aqm:${password}@127.0.0.1/aqm` },
    'needs DATABASE_URL',
  ],
  [
    'a database that does not exist',
    { DATABASE_URL: `${databaseUrl('nothing')}&password=${password}` },
    'database "nothing" does not exist',
  ],
  [
    'an invalid Redis port',
    { AQM_LIMITS_REDIS_URL: `redis://${user}:${password}@127.0.0.1:none` },
    'AQM_LIMITS_REDIS_URL must be',
  ],
  [
    'a Redis URL without scheme',
    { AQM_LIMITS_REDIS_URL: `${user}:${password}@127.0.0.1:1` },
    'AQM_LIMITS_REDIS_URL must be',
  ],
  [
    'a Redis URL of another scheme',
    { AQM_LIMITS_REDIS_URL: `postgres://${user}:${password}@127.0.0.1:1` },
    'AQM_LIMITS_REDIS_URL must be',
  ],
  [
    'token keys without TLS',
    { AQM_TOKEN_JWKS_URL: `http://keys.example.org/?key=${password}` },
    'AQM_TOKEN_JWKS_URL must begin with https://',
  ],
  [
    'token keys with a password',
    { AQM_TOKEN_JWKS_URL: `https://${user}:${password}@keys.example.org` },
    'AQM_TOKEN_JWKS_URL must hold no user',
  ],
];

test.each(rows)('the service with %s ends without showing a password', async (_what, env, sentence) => {
  const { code, stdout, stderr } = await runCommand('serve', [], {
    DATABASE_URL: databaseUrl('nothing'),
    AQM_DATA_DIR: dataDir,
    AQM_LISTEN: '127.0.0.1:0',
    AQM_LOG_LEVEL: 'trace',
    AQM_START_TIMEOUT_MS: '0',
    ...env,
  });
  expect({ code: code === 1 || code === 2, stdout }).toEqual({ code: true, stdout: '' });
  expect(logMessages(stderr)).toContain(sentence);
  expect(secrets.foundIn(stderr)).toEqual([]);
});

test.each([
  ['migrate', ['status']],
  ['admin', ['fence', 'status']],
  ['doctor', []],
])('aqm %s does not show a password', async (command, args) => {
  for (const [name, expected] of [
    ['127.0.0.1:1', 1],
    ['127.0.0.1:none', command === 'doctor' ? 1 : 2],
  ] as const) {
    const env = { AQM_DATA_DIR: dataDir, DATABASE_URL: `postgresql://aqm:${password}@${name}/aqm` };
    const { code, stdout, stderr } = await runCommand(command, args, env);
    expect(code).toBe(expected);
    expect(secrets.foundIn(stdout + stderr)).toEqual([]);
  }
});

test('the log shows the URL of the token keys without query and fragment', async () => {
  let log = '';
  const sink = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      log += chunk;
      done();
    },
  });
  const url = `http://127.0.0.1:1/keys?key=${password}#${password}`;
  const keys = keysOfUrl(url, pino({ level: 'trace' }, sink));
  await expect(keys.find({ alg: 'EdDSA' }, { payload: '', signature: '' })).rejects.toThrow('cannot be fetched');
  expect(log).toContain('http://127.0.0.1:1/keys');
  expect(secrets.foundIn(log)).toEqual([]);
});
