import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../../../testkit/root';
import { readConfig } from '../../config';
import { withSettingsTables } from '../../config/markdown';
import { effectiveSettings, unknownNames } from '../../config/read-settings';
import { ALL_SETTINGS } from '../../config/settings';
import { DATABASE_PARAMETERS } from '../../config/urls';

/** The lines of the error for an environment. */
function problemsOf(env: NodeJS.ProcessEnv): string[] {
  try {
    readConfig(env);
    return [];
  } catch (error) {
    return (error as Error).message.split('\n');
  }
}

test('every setting is a row of docs/configuration.md, with a full sentence', () => {
  const rows = readFileSync(join(ROOT, 'docs/configuration.md'), 'utf8').split('\n');
  expect(ALL_SETTINGS.length).toBeGreaterThan(30);
  const missing = ALL_SETTINGS.filter(
    ({ env, description }) => !rows.some((row) => row.startsWith(`| \`${env}\``) && row.endsWith(`| ${description} |`)),
  );
  expect(missing.map(({ env }) => env)).toEqual([]);
  const unfinished = ALL_SETTINGS.filter(({ description }) => !/^[A-Z`g].{20,}\.$/s.test(description));
  expect(unfinished.map(({ env }) => env)).toEqual([]);
});

test('an empty environment gives the defaults', () => {
  expect(readConfig({})).toMatchObject({
    host: '127.0.0.1',
    port: 50051,
    databaseUrl: undefined,
    tls: undefined,
    tokenKeys: undefined,
    fetchGraceSeconds: 3600,
    stockLimit: 1000,
    limits: { isOn: true, rates: { perPair: { perHour: 10, burst: 10 }, perTarget: { perHour: 600, burst: 200 } } },
    batching: { batch: 256, queues: 1, targets: 1000, stallTimeoutMs: 250 },
    connections: { maxStreams: 256, maxHeaderBytes: 16_384, callTimeoutMs: 60_000, idleTimeoutMs: 300_000 },
    idleInTransactionTimeoutMs: 5000,
  });
});

test('a variable that is empty counts as missing, even if its name is unknown', () => {
  const empty = Object.fromEntries(ALL_SETTINGS.map(({ env }) => [env, '']));
  expect(readConfig({ ...empty, AQM_NOTHING: '' })).toEqual(readConfig({}));
});

test.each([
  [{ AQM_LISTEN: '50051' }, 'AQM_LISTEN must be host:port, for example 127.0.0.1:50051 or [::1]:50051; it is "50051"'],
  // Clients could not tell the address from the port.
  [{ AQM_LISTEN: '::1:50051' }, 'AQM_LISTEN must be host:port, for example 127.0.0.1:50051 or [::1]:50051'],
  [{ AQM_LISTEN: ':::50051' }, 'AQM_LISTEN must be host:port'],
  [{ AQM_LISTEN: '[::1:50051' }, 'AQM_LISTEN must be host:port'],
  [{ AQM_LISTEN: '[localhost]:50051' }, 'AQM_LISTEN must be host:port'],
  [{ AQM_LISTEN: '127.0.0.1:70000' }, 'AQM_LISTEN must be host:port'],
  [{ AQM_LISTEN: '0.0.0.0:50051', AQM_PLAINTEXT: 'anywhere' }, 'the development key is for loopback only'],
  [{ AQM_LISTEN: 'coins.example.org:1', AQM_PLAINTEXT: 'anywhere' }, 'the development key is for loopback only'],
  [{ DATABASE_URL: 'mysql://x' }, 'DATABASE_URL must begin with postgresql://'],
  [{ AQM_READ_DATABASE_URL: 'mysql://x' }, 'AQM_READ_DATABASE_URL must begin with postgresql://'],
  [{ AQM_READ_DATABASE_URL: 'postgresql://x/aqm' }, 'AQM_READ_DATABASE_URL needs DATABASE_URL'],
  [{ AQM_FETCH_GRACE: '0' }, 'AQM_FETCH_GRACE must be a whole number from 1 to 604800; it is "0"'],
  [{ AQM_FETCH_GRACE: '1.5' }, 'AQM_FETCH_GRACE must be a whole number'],
  [{ AQM_LOG_LEVEL: 'loud' }, 'AQM_LOG_LEVEL must be one of'],
  [{ AQM_TOKEN_PUBLIC_KEY_FILE: 'a', AQM_TOKEN_JWKS_URL: 'https://b' }, 'exclude each other'],
  [{ AQM_TOKEN_JWKS_URL: 'http://keys.example.org' }, 'AQM_TOKEN_JWKS_URL must begin with https://'],
  [{ AQM_TOKEN_JWKS_URL: 'keys' }, 'AQM_TOKEN_JWKS_URL must begin with https://'],
  [{ AQM_TOKEN_JWKS_URL: 'https://a:b@keys.example.org' }, 'AQM_TOKEN_JWKS_URL must hold no user and no password'],
  [{ AQM_LISTEN: '0.0.0.0:1', AQM_TOKEN_JWKS_URL: 'https://b' }, 'AQM_TLS_CERT_FILE and AQM_TLS_KEY_FILE are needed'],
  [{ AQM_TLS_KEY_FILE: 'a' }, 'AQM_TLS_CERT_FILE and AQM_TLS_KEY_FILE need each other'],
  [{ AQM_TLS_CLIENT_CA_FILE: 'a' }, 'AQM_TLS_CLIENT_CA_FILE needs'],
  [{ AQM_LIMITS: 'no' }, 'AQM_LIMITS must be one of on, off'],
  [
    { AQM_LIMIT_PER_TARGET: '60/19' },
    'AQM_LIMIT_PER_TARGET must be PER_HOUR/BURST in coins, with a burst of at least 20, for example 600/200; it is "60/19"',
  ],
  [{ AQM_LIMIT_PER_PAIR: '10/0' }, 'AQM_LIMIT_PER_PAIR must be PER_HOUR/BURST in coins, with a burst of at least 1'],
  [{ AQM_LIMIT_PER_UPLOADER: 'many' }, 'AQM_LIMIT_PER_UPLOADER must be PER_HOUR/BURST in coins'],
  [{ AQM_LIMIT_PER_RECONCILER: '0/20' }, 'AQM_LIMIT_PER_RECONCILER must be PER_HOUR/BURST in calls'],
  [{ AQM_LIMITS_REDIS_URL: 'redis.example.org' }, 'AQM_LIMITS_REDIS_URL must be redis://'],
  [{ AQM_WORKERS: '0' }, 'AQM_WORKERS must be a whole number from 1 to 64'],
  [{ AQM_WORKERS: '2' }, 'AQM_WORKERS=2 needs AQM_LIMITS_REDIS_URL'],
  [{ AQM_POOLER: 'session' }, 'AQM_POOLER must be one of none, transaction, transaction-prepared'],
  [{ AQM_POOLER: 'transaction' }, 'AQM_POOLER needs DATABASE_URL'],
  [{ AQM_CONNECT_TIMEOUT_MS: '0' }, 'AQM_CONNECT_TIMEOUT_MS must be a whole number from 10'],
  [{ AQM_PLAINTEXT: 'yes' }, 'AQM_PLAINTEXT must be one of loopback, anywhere'],
  [{ AQM_DISTRIBUTED: '1' }, 'AQM_DISTRIBUTED must be one of on, off'],
])('%j is refused with one line that says what is allowed', (env, sentence) => {
  expect(problemsOf(env)).toEqual([expect.stringContaining(sentence)]);
});

test('all problems are reported together, one line each', () => {
  expect(problemsOf({ AQM_LISTEN: 'x', AQM_FETCH_GRACE: 'x', AQM_LIMTS: 'off', AQM_TLS_KEY_FILE: 'a' })).toEqual([
    'AQM_LIMTS is not a setting; did you mean AQM_LIMITS?',
    expect.stringMatching(/^AQM_LISTEN must/),
    expect.stringMatching(/^AQM_FETCH_GRACE must/),
    expect.stringMatching(/^AQM_TLS_CERT_FILE and AQM_TLS_KEY_FILE need/),
  ]);
});

test('a setting that is not accepted breaks no further rule', () => {
  expect(problemsOf({ AQM_LISTEN: '0.0.0.0:1', AQM_PLAINTEXT: 'anywhere', AQM_TOKEN_JWKS_URL: 'keys' })).toHaveLength(
    1,
  );
  expect(problemsOf({ AQM_POOLER: 'transaction', DATABASE_URL: 'mysql://x' })).toHaveLength(1);
  expect(problemsOf({ AQM_WORKERS: '2', AQM_LIMITS_REDIS_URL: 'redis.example.org' })).toHaveLength(1);
});

describe('an AQM_* variable that is no setting is refused', () => {
  test.each([
    ['AQM_TOKEN_ISUER', 'AQM_TOKEN_ISSUER'],
    ['AQM_TOKEN_AUDIANCE', 'AQM_TOKEN_AUDIENCE'],
    ['AQM_LISTNE', 'AQM_LISTEN'],
    ['AQM_WORKER', 'AQM_WORKERS'],
    ['AQM_MAX_CONNECTION', 'AQM_MAX_CONNECTIONS'],
    ['AQM_MAX_CONNECTION_PER_ADDRESS', 'AQM_MAX_CONNECTIONS_PER_ADDRESS'],
    ['AQM_LIMIT', 'AQM_LIMITS'],
    ['AQM_STATMENT_TIMEOUT_MS', 'AQM_STATEMENT_TIMEOUT_MS'],
  ])('%s: did you mean %s?', (name, meant) => {
    expect(problemsOf({ [name]: 'x' })).toEqual([`${name} is not a setting; did you mean ${meant}?`]);
  });

  test('without a guess where nothing resembles it', () => {
    expect(problemsOf({ AQM_CLAIM_PATIENCE_MS: '5' })).toEqual([
      'AQM_CLAIM_PATIENCE_MS is not a setting ("aqm config" lists them)',
    ]);
  });

  test('every setting with one character too few, and with two swapped, is recognised', () => {
    const wrongNames: NodeJS.ProcessEnv = {};
    const expected: string[] = [];
    for (const { env } of ALL_SETTINGS.filter(({ env }) => env.startsWith('AQM_'))) {
      for (let at = 'AQM_'.length; at < env.length - 1; at += 1) {
        const shorter = env.slice(0, at) + env.slice(at + 1);
        const swapped = `${env.slice(0, at)}${env[at + 1]}${env[at]}${env.slice(at + 2)}`;
        for (const wrong of [shorter, swapped].filter((name) => !ALL_SETTINGS.some(({ env }) => env === name))) {
          wrongNames[wrong] = 'x';
          expected.push(`${wrong} is not a setting; did you mean ${env}?`);
        }
      }
    }
    expect(unknownNames(wrongNames).sort()).toEqual([...new Set(expected)].sort());
  });

  test('other variables are not its business', () => {
    expect(problemsOf({ PATH: '/bin', OTEL_SDK_DISABLED: 'true', PGSSLMODE: 'disable', aqm: '1' })).toEqual([]);
  });
});

describe('a database URL that the driver would not understand, or understand as something else, is refused', () => {
  test.each([
    ['# in the password', `postgresql://aqm:hush#1@db.example.org/aqm`, 'cannot be parsed (Invalid URL). It must be'],
    ['# in a password of digits', 'postgresql://aqm:12#hush@db.example.org/aqm', 'must be percent-encoded'],
    ['/ in the password', 'postgresql://aqm:hush/1@db.example.org/aqm', 'cannot be parsed (Invalid URL)'],
    ['/ in a password of digits', 'postgresql://aqm:12/hush@db.example.org/aqm', 'must be percent-encoded'],
    ['@/ in the password', 'postgresql://aqm:hush@/1@db.example.org/aqm', 'must be percent-encoded'],
    ['bytes that are no UTF-8', 'postgresql://aqm:hush%ff@db.example.org/aqm', 'must be percent-encoded'],
    ['no port number', 'postgresql://aqm:hush@db.example.org:first/aqm', 'cannot be parsed (Invalid URL)'],
    ['two hosts', 'postgresql://aqm:hush@one.example.org,two.example.org/aqm', 'names several hosts'],
    ['two hosts with ports', 'postgresql://aqm:hush@one.example.org:1,two.example.org:2/aqm', 'names several hosts'],
    ['two hosts in the query', 'postgresql://aqm:hush@/aqm?host=one,two&port=1,2', 'names several hosts'],
    ['two ports', 'postgresql://aqm:hush@/aqm?host=one&port=1,2', '"port" that is not a number'],
    ['the root certificates of libpq', 'postgresql://aqm:hush@one/aqm?sslrootcert=system', 'leave sslrootcert out'],
    [
      'a misspelt parameter without a host',
      'postgresql://aqm:hush@/aqm?host=/run&sslmod=require',
      'did you mean "sslmode"',
    ],
  ])('%s', (_what, url, sentence) => {
    expect(problemsOf({ DATABASE_URL: url })).toEqual([expect.stringContaining(`DATABASE_URL`)]);
    const [problem = ''] = problemsOf({ DATABASE_URL: 'postgresql://one/aqm', AQM_READ_DATABASE_URL: url });
    expect(problem).toMatch(/^AQM_READ_DATABASE_URL /);
    expect(problem).toContain(sentence);
    expect(problem).not.toContain('hush');
  });

  test.each([
    'postgresql://aqm:p%23%2F%40@db.example.org:5432/aqm?sslmode=verify-full',
    'postgresql://aqm@/aqm?host=%2Frun%2Fpostgresql',
    'postgresql:///aqm?host=/run/with,comma&port=5433&user=aqm',
    'postgresql://aqm:a@b@[::1]:5432/aqm',
    'postgresql://aqm:100%@db.example.org/aqm',
    'postgres://%2Frun%2Fpostgresql/aqm',
  ])('%s is accepted', (url) => {
    expect(problemsOf({ DATABASE_URL: url, AQM_READ_DATABASE_URL: url })).toEqual([]);
  });
});

describe('query parameters of a database URL', () => {
  const url = (query: string) => `postgresql://aqm@db.example.org/aqm?${query}`;

  test('those that pg knows are accepted', () => {
    const query = 'sslmode=verify-full&sslrootcert=/ca.pem&application_name=a&host=/socket&port=5432&user=u&password=p';
    expect(problemsOf({ DATABASE_URL: url(query), AQM_READ_DATABASE_URL: url(query) })).toEqual([]);
  });

  test.each([
    ['sslmod=verify-full', 'has an unknown parameter "sslmod"; did you mean "sslmode"? Allowed: host, port, user'],
    ['ssl_mode=require', 'has an unknown parameter "ssl_mode"; did you mean "sslmode"?'],
    ['applicationname=a', 'has an unknown parameter "applicationname"; did you mean "application_name"?'],
    ['target_session_attrs=read-write', 'has an unknown parameter. Allowed: host, port'],
    ['connect_timeout=10', 'must not have the parameter "connect_timeout"; use AQM_CONNECT_TIMEOUT_MS instead'],
    ['statement_timeout=0', 'must not have the parameter "statement_timeout"; use AQM_STATEMENT_TIMEOUT_MS instead'],
  ])('%s is refused, for both URLs', (query, sentence) => {
    expect(problemsOf({ DATABASE_URL: url(query) })).toEqual([expect.stringContaining(`DATABASE_URL ${sentence}`)]);
    expect(problemsOf({ DATABASE_URL: url(''), AQM_READ_DATABASE_URL: url(query) })).toEqual([
      expect.stringContaining(`AQM_READ_DATABASE_URL ${sentence}`),
    ]);
  });

  test('docs/configuration.md lists all that are accepted', () => {
    const document = readFileSync(join(ROOT, 'docs/configuration.md'), 'utf8');
    const [, section = ''] = document.split('## Query parameters of a database URL');
    for (const name of DATABASE_PARAMETERS) expect(section).toContain(`\`${name}\``);
  });

  test('a piece of a password that looks like a parameter is not repeated', () => {
    const [problem = ''] = problemsOf({ DATABASE_URL: 'postgresql://aqm:123?hush@db.example.org/aqm' });
    expect(problem).toMatch(/^DATABASE_URL has an unknown parameter\. Allowed/);
    expect(problem).not.toContain('hush');
  });
});

test('a pooler in transaction mode gets no named statements unless it supports them', () => {
  const prepared = (env: NodeJS.ProcessEnv) => {
    const { pooler, preparedStatements } = readConfig({ DATABASE_URL: 'postgresql://pooler/aqm', ...env });
    return [pooler, preparedStatements];
  };
  expect(prepared({})).toEqual(['none', true]);
  expect(prepared({ AQM_POOLER: 'transaction' })).toEqual(['transaction', false]);
  expect(prepared({ AQM_POOLER: 'transaction-prepared' })).toEqual(['transaction', true]);
});

test('on distributed tables a statement serves one user, and 16 run at the same time', () => {
  expect(readConfig({ AQM_DISTRIBUTED: 'on' }).batching).toMatchObject({ targets: 1, queues: 16 });
});

test('the fence folder is in the data folder unless it is set', () => {
  expect(readConfig({ AQM_DATA_DIR: '/srv/aqm' }).fenceDir).toBe('/srv/aqm/fence');
  expect(readConfig({ AQM_DATA_DIR: '/srv/aqm', AQM_FENCE_DIR: '/fence' }).fenceDir).toBe('/fence');
});

test('a rate without a slash has a burst of the same size', () => {
  expect(readConfig({ AQM_LIMIT_PER_TARGET: '500' }).limits.rates.perTarget).toEqual({ perHour: 500, burst: 500 });
});

describe('the declaration of the settings', () => {
  test('every name, and every default that is a text, is accepted by its own format', () => {
    for (const { setting, text } of effectiveSettings({})) {
      expect(setting.env).toMatch(/^(AQM_[A-Z_]+[A-Z]|DATABASE_URL)$/);
      if (text !== undefined)
        expect([setting.env, setting.format.parse(text) !== undefined]).toEqual([setting.env, true]);
      expect(setting.description).toMatch(/^[^|\n]+\.$/);
    }
    expect(new Set(ALL_SETTINGS.map(({ env }) => env)).size).toBe(ALL_SETTINGS.length);
  });

  test('the tables of docs/configuration.md are those of the declaration: "aqm config --markdown docs/configuration.md"', () => {
    const document = readFileSync(join(ROOT, 'docs/configuration.md'), 'utf8');
    expect(withSettingsTables(document)).toBe(document);
  });
});
