import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommand } from '../../../../testkit/command';
import { ROOT } from '../../../../testkit/root';
import { Secrets } from '../../../../testkit/secrets';
import { maskUrl } from '../../config/urls';

const secrets = new Secrets();
const user = secrets.text('a user name');
const password = secrets.text('a password');

interface Row {
  readonly name: string;
  readonly value: string | null;
  readonly source: string;
}

async function rowsWith(env: NodeJS.ProcessEnv): Promise<Record<string, Row>> {
  const { code, stdout } = await runCommand('config', ['--json'], env);
  expect(code).toBe(0);
  return Object.fromEntries(JSON.parse(stdout).settings.map((row: Row) => [row.name, row]));
}

test('prints every setting with its effective value and its source', async () => {
  const rows = await rowsWith({ AQM_DATA_DIR: '/srv/aqm', AQM_FETCH_GRACE: '60', AQM_TOKEN_ISSUER: '' });
  expect(rows.AQM_FETCH_GRACE).toMatchObject({ value: '60', source: 'environment' });
  expect(rows.AQM_LISTEN).toMatchObject({ value: '127.0.0.1:50051', source: 'default' });
  expect(rows.AQM_FENCE_DIR).toMatchObject({ value: '/srv/aqm/fence', source: 'default' });
  expect(rows.AQM_TOKEN_ISSUER).toMatchObject({ value: null, source: 'default' });
  const { stdout } = await runCommand('config', [], { AQM_FETCH_GRACE: '60' });
  expect(stdout).toMatch(/^setting +value +source\n/);
  expect(stdout).toMatch(/^AQM_FETCH_GRACE +60 +environment$/m);
});

test('of a URL it shows where it leads, without user, password and query', async () => {
  const env = {
    DATABASE_URL: `postgresql://${user}:${password}@db.example.org:6543/aqm?sslmode=verify-full&password=${password}`,
    AQM_READ_DATABASE_URL: `postgresql://${user}:${password}@/aqm?host=/run/postgresql`,
    AQM_LIMITS_REDIS_URL: `rediss://${user}:${password}@redis.example.org/2`,
    AQM_TOKEN_JWKS_URL: `https://id.example.org/keys?key=${password}#${password}`,
  };
  const rows = await rowsWith(env);
  expect(rows.DATABASE_URL?.value).toBe('postgresql://db.example.org:6543/aqm');
  expect(rows.AQM_READ_DATABASE_URL?.value).toBe('***');
  expect(rows.AQM_LIMITS_REDIS_URL?.value).toBe('rediss://redis.example.org/2');
  expect(rows.AQM_TOKEN_JWKS_URL?.value).toBe('https://id.example.org/keys');
  const { stdout, stderr } = await runCommand('config', [], env);
  expect(secrets.foundIn(stdout, stderr, JSON.stringify(rows))).toEqual([]);
});

test.each([
  ['postgresql:///aqm?host=/run/postgresql&user=a', 'postgresql:///aqm?host=/run/postgresql'],
  ['redis://:12/hush@redis.example.org', '***'],
  ['/run/redis.sock?password=hush', '/run/redis.sock'],
  ['postgresql://aqm:hush/x@host/aqm', '***'],
])('%s is shown as %s', (url, shown) => {
  expect(maskUrl(url)).toBe(shown);
});

test('an invalid setting ends it with exit code 2 and one line for each problem', async () => {
  const { code, stdout, stderr } = await runCommand('config', [], { AQM_FETCH_GRACE: 'x', AQM_TOKEN_ISUER: 'y' });
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(
    /^AQM_TOKEN_ISUER is not a setting; did you mean AQM_TOKEN_ISSUER\?\nAQM_FETCH_GRACE must .*\n$/,
  );
});

describe('--markdown', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'aqm-config-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  test('writes the tables of a document again, and nothing else of it', async () => {
    const original = join(ROOT, 'docs/configuration.md');
    const copy = join(folder, 'configuration.md');
    copyFileSync(original, copy);
    const text = readFileSync(copy, 'utf8');
    writeFileSync(copy, text.replace('| `AQM_LISTEN` |', '| `AQM_HEAR` |'));
    expect(await runCommand('config', ['--markdown', copy], {})).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(readFileSync(copy, 'utf8')).toBe(text);
  });

  test('a document without a place for them is left alone', async () => {
    const other = join(folder, 'other.md');
    writeFileSync(other, '# Another document\n');
    const { code, stderr } = await runCommand('config', ['--markdown', other], {});
    expect(code).toBe(1);
    expect(stderr).toContain('has no place for the tables');
    expect(readFileSync(other, 'utf8')).toBe('# Another document\n');
  });
});
