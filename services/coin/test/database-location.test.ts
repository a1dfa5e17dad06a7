import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommand } from '../../../testkit/command';
import { databaseName } from '../config/urls';
import { describeDatabase } from '../database-location';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-location-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

test.each([
  ['postgresql://aqm:hush@db.example.org:6543/coins?sslmode=verify-full', 'aqm@db.example.org:6543/coins'],
  ['postgresql://aqm:hush@db.example.org', 'aqm@db.example.org:5432/aqm'],
  ['postgresql://aqm@[::1]/coins', 'aqm@[::1]:5432/coins'],
  ['postgresql:///coins?host=/run/postgresql&user=a', 'a@/run/postgresql:5432/coins'],
  ['postgresql://a%40b:hush@%2Frun%2Fpg/coins', 'a@b@/run/pg:5432/coins'],
])('%s is shown as %s', (url, shown) => {
  expect(databaseName(url, {})).toBe(shown);
});

test('what a URL leaves open is completed as the driver does', () => {
  const env = { PGUSER: 'aqm', PGHOST: 'db', PGPORT: '6543', PGDATABASE: 'coins' };
  expect(databaseName('postgresql://', env)).toBe('aqm@db:6543/coins');
  expect(describeDatabase({ databaseUrl: undefined, dataDir: '/srv/aqm', isProduction: false })).toBe(
    'embedded PostgreSQL in /srv/aqm/postgres',
  );
});

test.each([
  ['migrate', [], '', /^There is no database: DATABASE_URL is not set, .* or run "aqm serve", which creates one\.$/m],
  ['admin', ['fence', 'status'], '', /^There is no database: DATABASE_URL is not set/m],
  ['upgrade-postgres', [], '', /^There is no database: DATABASE_URL is not set/m],
  ['migrate', [], 'production', /with NODE_ENV=production no embedded PostgreSQL is created in .*--env-file FILE\.$/m],
  ['serve', [], 'production', /with NODE_ENV=production no embedded PostgreSQL is created/],
])('aqm %s %j without a database (NODE_ENV=%s) ends with exit code 2 and creates nothing', async (...row) => {
  const [command, args, NODE_ENV, sentence] = row;
  const dataDir = join(folder, 'data');
  const { code, stdout, stderr } = await runCommand(command, args, { AQM_DATA_DIR: dataDir, NODE_ENV });
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(sentence);
  expect(stderr).not.toContain('    at ');
  if (command !== 'serve') expect(stderr).toMatch(/^database: embedded PostgreSQL in .*\/data\/postgres\n/);
  expect(existsSync(dataDir)).toBe(false);
});

test('aqm doctor in production fails without a database', async () => {
  const env = { AQM_DATA_DIR: join(folder, 'data'), NODE_ENV: 'production' };
  const { code, stdout } = await runCommand('doctor', ['--least-free', '0'], env);
  expect(code).toBe(1);
  expect(stdout).toMatch(/^fail +connection +DATABASE_URL is not set, and NODE_ENV=production allows no embedded/m);
});
