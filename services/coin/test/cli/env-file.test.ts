import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommand } from '../../../../testkit/command';
import { loadEnvFile, parseEnvFile } from '../../cli/env-file';

let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-env-'));
  file = join(folder, 'aqm.env');
});
afterEach(() => rmSync(folder, { recursive: true }));

const parse = (text: string) => Object.fromEntries(parseEnvFile(text, 'aqm.env'));

test('lines are read as systemd reads them', () => {
  const text = [
    '# a comment',
    '; another',
    '',
    'DATABASE_URL=postgresql://aqm:a%23b@db/aqm?sslmode=verify-full',
    'AQM_LIMITS_REDIS_URL=rediss://:a#b@redis',
    '  AQM_LISTEN = '.replace(' = ', '=0.0.0.0:50051  \r'),
    'export AQM_TOKEN_ISSUER="the \\"issuer\\" # of tokens"',
    "AQM_TOKEN_AUDIENCE='a\\b'",
    'AQM_DATA_DIR=',
  ].join('\n');
  expect(parse(text)).toEqual({
    DATABASE_URL: 'postgresql://aqm:a%23b@db/aqm?sslmode=verify-full',
    AQM_LIMITS_REDIS_URL: 'rediss://:a#b@redis',
    AQM_LISTEN: '0.0.0.0:50051',
    AQM_TOKEN_ISSUER: 'the "issuer" # of tokens',
    AQM_TOKEN_AUDIENCE: 'a\\b',
    AQM_DATA_DIR: '',
  });
});

test.each([
  ['no name', 'AQM_LISTEN'],
  ['a space before the sign', 'AQM_LISTEN = 127.0.0.1:1'],
  ['a quote that is not closed', 'AQM_LISTEN="secret'],
  ['a comment behind the value', 'AQM_LISTEN=secret # our address'],
  ['a backslash without quotes', 'AQM_LISTEN=sec\\ret'],
])('%s is refused with the number of the line and without its text', (_what, line) => {
  expect(() => parse(`# first\n${line}\n`)).toThrow('Line 2 of aqm.env cannot be read. Allowed: NAME=value,');
  expect(() => parse(`# first\n${line}\n`)).not.toThrow('secret');
});

test('a variable that the environment sets to something else, or that is set twice, is refused', () => {
  writeFileSync(file, 'DATABASE_URL=postgresql://one/aqm\nAQM_LISTEN=127.0.0.1:1\nPGUSER=aqm\n');
  const env: NodeJS.ProcessEnv = { DATABASE_URL: 'postgresql://other/aqm', AQM_LISTEN: '127.0.0.1:1', PGUSER: '' };
  expect(() => loadEnvFile(file, env)).toThrow(
    `${file} sets DATABASE_URL, and the environment sets the same to something else. Unset it in one of the two.`,
  );
  expect(env).toEqual({ DATABASE_URL: 'postgresql://other/aqm', AQM_LISTEN: '127.0.0.1:1', PGUSER: '' });
  delete env.DATABASE_URL;
  loadEnvFile(file, env);
  expect(env).toEqual({ DATABASE_URL: 'postgresql://one/aqm', AQM_LISTEN: '127.0.0.1:1', PGUSER: 'aqm' });
  expect(() => parse('AQM_LISTEN=a\nAQM_LISTEN=b\n')).toThrow('Line 2 of aqm.env sets AQM_LISTEN again.');
});

test('a command reads its settings from the file', async () => {
  writeFileSync(file, 'AQM_FETCH_GRACE=77\n');
  const { stdout } = await runCommand('config', ['--env-file', file], {});
  expect(stdout).toMatch(/^AQM_FETCH_GRACE +77 +environment$/m);
  const missing = await runCommand('config', ['--env-file', join(folder, 'nowhere.env')], {});
  expect(missing).toEqual({
    code: 2,
    stdout: '',
    stderr: expect.stringMatching(/^The file of --env-file cannot be read: ENOENT.*nowhere\.env'\n$/),
  });
});
