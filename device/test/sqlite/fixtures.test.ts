import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { ROOT } from '../../../testkit/root';
import { HOUR, keyId, vaultKey } from '../../conformance/harness';
import { RECORD_KINDS, RecordDigest } from '../../contract/device-record';
import { moveDeviceStorage, openDeviceStorage, type SqliteConfig } from '../../index';
import { digestsOf, observe } from '../moving/move-kit';
import { FIXTURE_KEY, fixtureClock } from './make-fixture';

const FIXTURES = join(ROOT, 'device/sqlite/fixtures');
const MIGRATIONS = join(ROOT, 'device/sqlite/migrations');
const SCHEMAS = readdirSync(MIGRATIONS).map((file) => file.slice(0, 4));

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-fixture-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Copies a fixture. The clock stands at the time just after it was filled. */
function fixture(schema: string) {
  const path = join(folder, 'device.db');
  copyFileSync(join(FIXTURES, `schema-${schema}.db`), path);
  const clock = fixtureClock();
  clock.advance(2 * HOUR);
  const config: SqliteConfig = { backend: 'sqlite', path, key: FIXTURE_KEY, now: clock.now };
  return { path, clock, config };
}

/** Opens a copy with the engine itself. */
function engineOn(path: string, { readonly = true } = {}): Database.Database {
  const database = new Database(path, { readonly });
  database.pragma("cipher = 'sqlcipher'");
  database.pragma('legacy = 4');
  database.pragma(`key = "x'${Buffer.from(FIXTURE_KEY).toString('hex')}'"`);
  return database;
}

it('keeps a database of every released schema', () => {
  expect(SCHEMAS.length).toBeGreaterThan(0);
  const files = SCHEMAS.flatMap((schema) => [`schema-${schema}.db`, `schema-${schema}.json`]);
  expect(readdirSync(FIXTURES).sort()).toStrictEqual(files.sort());
});

describe.each(SCHEMAS)('a database that was written under schema %s', (schema) => {
  it('has that schema', () => {
    const database = engineOn(fixture(schema).path);
    expect(database.pragma('user_version', { simple: true })).toBe(Number(schema));
    database.close();
  });

  it('has every record when this release opens it', async () => {
    const { config } = fixture(schema);
    const expected: object = JSON.parse(readFileSync(join(FIXTURES, `schema-${schema}.json`), 'utf8'));
    const { value } = new RecordDigest();
    // The schema had no table for some kinds of records.
    const none = Object.fromEntries(RECORD_KINDS.map((kind) => [kind, `0 ${value}`]));
    expect(await digestsOf(config)).toStrictEqual({ ...none, ...expected });
  });

  it('is migrated to the newest schema, and can be used', async () => {
    const { path, clock, config } = fixture(schema);
    const storage = await openDeviceStorage(config);
    const { keys, statuses, next, burnedAgain } = await observe(storage, clock);
    expect(keys).toHaveLength(13);
    expect(statuses).toStrictEqual(['BURNED', 'ACTIVE', 'BURNED', 'ACTIVE', 'EXPIRED', 'ACTIVE', 'ABSENT']);
    expect(next).not.toBeNull();
    expect(burnedAgain).toStrictEqual([false, false, false]);
    expect(await storage.vault.storeKey(vaultKey(500))).toBe(true);
    expect(await storage.vault.burnKey(keyId(1))).toBe(true);
    await storage.close();
    const database = engineOn(path);
    expect(database.pragma('user_version', { simple: true })).toBe(SCHEMAS.length);
    database.close();
  });
});

it('completes a move that an older release began', async () => {
  const expected = await digestsOf(fixture('0002').config);
  const { path, config } = fixture('0002');
  const database = engineOn(path, { readonly: false });
  for (const kind of RECORD_KINDS.filter((name) => !['published_coin', 'contact_device'].includes(name))) {
    database.exec(`ALTER TABLE ${kind} RENAME TO fenced_${kind}`);
  }
  database.exec(`INSERT INTO copy_state VALUES (1, 'MOVING', '${keyId(1)}', '${keyId(2)}')`);
  database.close();
  await expect(openDeviceStorage(config)).rejects.toMatchObject({ name: 'StorageMovedError', state: 'MOVING' });
  const target: SqliteConfig = { ...config, path: join(folder, 'target.db') };
  await moveDeviceStorage(config, target);
  expect(await digestsOf(target)).toStrictEqual(expected);
  await expect(openDeviceStorage(config)).rejects.toMatchObject({ state: 'MOVED' });
});
