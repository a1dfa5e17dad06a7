import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from '../../config';
import { SECRET_NAMES } from '../../config/secret-files';
import { ALL_SETTINGS } from '../../config/settings';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-secrets-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function file(text: string): string {
  const path = join(folder, 'secret');
  writeFileSync(path, text);
  return path;
}

test('every setting that may hold a secret can be given in a file, and no other', () => {
  expect(SECRET_NAMES).toEqual(['DATABASE_URL', 'AQM_READ_DATABASE_URL', 'AQM_TOKEN_JWKS_URL', 'AQM_LIMITS_REDIS_URL']);
  expect(ALL_SETTINGS.filter(({ env }) => env.endsWith('_URL')).every(({ env }) => SECRET_NAMES.includes(env))).toBe(
    true,
  );
  expect(() => readConfig({ AQM_LISTEN_FILE: file('127.0.0.1:1') })).toThrow('AQM_LISTEN_FILE is not a setting');
});

test.each(['\n', '\r\n', '', '\n\n'])('the value is the text of the file without %j behind it', (end) => {
  const url = 'postgresql://aqm:p ss@db/aqm ';
  expect(readConfig({ DATABASE_URL_FILE: file(`${url}${end}`) }).databaseUrl).toBe(url);
  const redisUrl = 'redis://:hush@redis';
  expect(readConfig({ AQM_LIMITS_REDIS_URL_FILE: file(`${redisUrl}${end}`) }).limits.redisUrl).toBe(redisUrl);
});

test('both at once, an empty file and one that cannot be read are refused, without the secret', () => {
  const path = file('postgresql://aqm:hush@db/aqm');
  const env = { DATABASE_URL: 'postgresql://aqm:hush@db/aqm', DATABASE_URL_FILE: path };
  expect(() => readConfig(env)).toThrow(/^DATABASE_URL and DATABASE_URL_FILE exclude each other; set one of them$/);
  expect(() => readConfig({ DATABASE_URL_FILE: file('\n') })).toThrow(/^DATABASE_URL_FILE names an empty file, /);
  expect(() => readConfig({ DATABASE_URL_FILE: join(folder, 'nowhere') })).toThrow(
    /^DATABASE_URL_FILE names a file that cannot be read: ENOENT/,
  );
  expect(() => readConfig({ AQM_LIMITS_REDIS_URL_FILE: file('hush') })).toThrow(
    /^AQM_LIMITS_REDIS_URL must be redis:\/\/(?!.*hush)/,
  );
});
