import { type ChildProcess, execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import Database from 'better-sqlite3';
import { compiled } from '../../../testkit/root';
import { IS_FULL_RUN } from '../../../testkit/tier';
import { bytes, keyId, vaultKey } from '../../conformance/harness';
import * as device from '../../index';
import { DatabaseFactory, openDeviceStorage, type SqliteConfig } from '../../index';
import { Secret } from '../../secret';
import { PASSPHRASE, RAW_KEY } from './harness';

const OPENER = compiled('device/conformance/race-worker');

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-device-'));
  path = join(folder, 'device.db');
});
afterEach(() => rmSync(folder, { recursive: true }));

const open = (changes: Partial<SqliteConfig> = {}) =>
  openDeviceStorage({ backend: 'sqlite', path, key: RAW_KEY, ...changes });

/** Opens the file with the engine itself and the right key. */
function rawHandle(): Database.Database {
  const database = new Database(path);
  database.pragma("cipher = 'sqlcipher'");
  database.pragma('legacy = 4');
  database.pragma(`key = "x'${Buffer.from(RAW_KEY).toString('hex')}'"`);
  return database;
}

describe('opening a device storage', () => {
  it('creates a file that only its owner may read', async () => {
    const storage = await open();
    await storage.vault.storeKey(vaultKey(1));
    for (const name of readdirSync(folder))
      expect([name, statSync(join(folder, name)).mode & 0o777]).toEqual([name, 0o600]);
    expect(storage.backend).toBe('sqlite');
    await storage.close();
  });

  it('works the same through DatabaseFactory', async () => {
    const storage = await DatabaseFactory.open({ backend: 'sqlite', path, key: PASSPHRASE });
    expect(await storage.vault.storeKey(vaultKey(1))).toBe(true);
    await storage.close();
  });

  it.each([
    ['another raw key', bytes(32, 1)],
    ['a passphrase in place of the raw key', PASSPHRASE],
  ])('answers WrongKeyError to %s, changes nothing, and the right key still opens', async (_, key) => {
    const storage = await open();
    await storage.vault.storeKey(vaultKey(1));
    await storage.close();
    const before = readFileSync(path);
    await expect(open({ key })).rejects.toMatchObject({ name: 'WrongKeyError', path });
    expect(readFileSync(path).equals(before)).toBe(true);
    expect(readdirSync(folder)).toStrictEqual(['device.db', 'device.db-reserve']);
    const again = await open();
    expect(await again.vault.getStatus(keyId(1))).toBe('ACTIVE');
    await again.close();
  });

  it('shows no key and no passphrase in an error of opening', async () => {
    await (await open()).close();
    const wrong = bytes(32, 9);
    const forms = ['hex', 'base64', 'latin1'] as const;
    for (const key of [wrong, 'correct horse']) {
      const error: unknown = await open({ key }).catch((error) => error);
      const shown = inspect(error, { depth: Number.POSITIVE_INFINITY, showHidden: true, maxArrayLength: null });
      expect(error).toMatchObject({ name: 'WrongKeyError' });
      const secrets = [...forms.map((form) => Buffer.from(key).toString(form)), [...Buffer.from(key)].join(', ')];
      for (const secret of secrets) expect(shown.toLowerCase()).not.toContain(secret.toLowerCase());
    }
  });

  it('answers WrongKeyError while another handle is in use, which stays usable', async () => {
    const storage = await open();
    await storage.vault.storeKey(vaultKey(1));
    await expect(open({ key: 'wrong' })).rejects.toMatchObject({ name: 'WrongKeyError' });
    expect(await storage.vault.burnKey(keyId(1))).toBe(true);
    await storage.close();
  });

  it.each([
    ['nothing', undefined],
    ['null', null],
    ['an empty passphrase', ''],
    ['an empty key', new Uint8Array(0)],
  ])('answers KeyMissingError to %s as key, and creates no file', async (_, key) => {
    await expect(open({ key: key as never })).rejects.toMatchObject({ name: 'KeyMissingError' });
    expect(existsSync(path)).toBe(false);
  });

  it.each([
    ['31 bytes', new Uint8Array(31)],
    ['an array', Array.from({ length: 32 })],
    ['a passphrase that other tools would read as a raw key', `x'${'0'.repeat(64)}'`],
    ['a passphrase that the engine would read as 32 raw bytes', `raw:${'z'.repeat(32)}`],
    ['a passphrase that the engine would read as a raw key in hex', `raw:${'0'.repeat(64)}`],
    ['a passphrase that the engine would read as a raw key and a salt', `raw:${'z'.repeat(48)}`],
    ['a passphrase that begins with raw: in other letters', 'RAW:anything'],
    ['ill-formed text', 'abc\ud800'],
    ['text with NUL', 'abc\0'],
  ])('answers InvalidArgumentError to %s as key, and creates no file', async (_, key) => {
    await expect(open({ key: key as never })).rejects.toMatchObject({ name: 'InvalidArgumentError', field: 'key' });
    expect(existsSync(path)).toBe(false);
  });

  it.each([
    ['backend', { backend: 'paper' }],
    ['url', { backend: 'redis' }],
    ['url', { backend: 'auto' }],
    ['backend', { backend: undefined }],
    ['path', { path: '' }],
    ['path', { path: 7 }],
    ['path', { path: ' device.db' }],
    ['path', { path: ':memory:' }],
    ['now', { now: new Date() }],
    ['now', { now: () => new Date(Number.NaN) }],
    ['now', { now: () => Date.now() }],
    ['budgets.BESTIE.GOLD', { budgets: {} }],
    ['budgets.MATE.BRONZE', { budgets: { ...device.DEFAULT_BUDGETS, MATE: { GOLD: 1, SILVER: 1, BRONZE: -1 } } }],
  ])('names the field %s if its value is invalid', async (field, changes) => {
    await expect(open(changes as never)).rejects.toMatchObject({ name: 'InvalidArgumentError', field });
  });

  it('answers NotADatabaseError to an SQLite file without encryption, and leaves it as it is', async () => {
    const plain = new Database(path);
    plain.exec('CREATE TABLE t (x)');
    plain.close();
    const before = readFileSync(path);
    await expect(open()).rejects.toMatchObject({ name: 'NotADatabaseError', path });
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  it.each([
    ['a short text', Buffer.from('hello')],
    ['a file that does not consist of whole pages', Buffer.from(bytes(10_000, 3))],
  ])('answers NotADatabaseError to %s, and leaves it as it is', async (_, content) => {
    writeFileSync(path, content);
    await expect(open()).rejects.toMatchObject({ name: 'NotADatabaseError' });
    expect(readFileSync(path).equals(content)).toBe(true);
  });

  it('answers UnreachableError when the folder is missing or the path is a folder', async () => {
    await expect(open({ path: join(folder, 'missing', 'device.db') })).rejects.toMatchObject({
      name: 'UnreachableError',
    });
    await expect(open({ path: folder })).rejects.toMatchObject({ name: 'UnreachableError', path: folder });
  });

  it('answers NewerSchemaError to the file of a newer release, and leaves it as it is', async () => {
    await (await open()).close();
    const newer = rawHandle();
    newer.pragma('user_version = 999');
    newer.close();
    const before = readFileSync(path);
    await expect(open()).rejects.toMatchObject({ name: 'NewerSchemaError', found: 999, supported: 7 });
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  it('uses an empty file that was created beforehand, and leaves its mode to whoever created it', async () => {
    writeFileSync(path, '', { mode: 0o640 });
    const storage = await open();
    expect(await storage.vault.storeKey(vaultKey(1))).toBe(true);
    expect(statSync(path).mode & 0o777).toBe(0o640);
    await storage.close();
  });

  it('answers NotADatabaseError to a pipe, and does not change its mode', async () => {
    execFileSync('mkfifo', ['-m', '666', path]);
    await expect(open()).rejects.toMatchObject({ name: 'NotADatabaseError', path });
    expect(statSync(path).mode & 0o777).toBe(0o666);
  });

  it.each([
    ['composed', 'decomposed', 'NFC', 'NFD'],
    ['decomposed', 'composed', 'NFD', 'NFC'],
  ])('opens with a %s passphrase what was made with its %s form', async (_, _made, opened, made) => {
    await (await open({ key: PASSPHRASE.normalize(made) })).close();
    const storage = await open({ key: PASSPHRASE.normalize(opened) });
    expect(await storage.vault.storeKey(vaultKey(1))).toBe(true);
    await storage.close();
    await expect(open({ key: PASSPHRASE.replace('ä', 'a') })).rejects.toMatchObject({ name: 'WrongKeyError', path });
  });

  it('opens a file whose passphrase another program used in its decomposed form', async () => {
    const other = new Database(path);
    other.pragma("cipher = 'sqlcipher'");
    other.pragma('legacy = 4');
    other.pragma(`key = '${PASSPHRASE.normalize('NFD').replaceAll("'", "''")}'`);
    other.pragma('user_version = 0');
    other.exec('CREATE TABLE theirs (x)');
    other.close();
    for (const form of ['NFC', 'NFD']) await (await open({ key: PASSPHRASE.normalize(form) })).close();
  });

  it('never shows the key when it is printed, serialised or inspected', () => {
    for (const secret of [Secret.from(new Uint8Array(32).fill(0xab)), Secret.from('hunter2')]) {
      const shown = [
        String(secret),
        `${secret}`,
        JSON.stringify({ secret }),
        inspect({ secret }, { showHidden: true }),
      ];
      expect(shown.join()).not.toMatch(/hunter2|ab, ?ab|171|abab/);
    }
  });

  it('exports every error under its own name', () => {
    const names = ['WrongKeyError', 'NotADatabaseError', 'NewerSchemaError', 'UnreachableError', 'KeyMissingError'];
    names.push('StorageFullError', 'StorageBusyError', 'StorageCorruptedError', 'InvalidArgumentError', 'ClosedError');
    const exported: Record<string, unknown> = device;
    for (const name of names) expect(exported[name]).toHaveProperty('name', name);
  });
});

describe('eight processes that create the same new file at the same time', () => {
  let openers: ChildProcess[];
  beforeAll(() => {
    openers = Array.from({ length: 8 }, () => fork(OPENER));
  });
  afterAll(() => {
    for (const opener of openers) opener.kill();
  });

  const keys: [string, number[] | string][] = [['a raw key', [...RAW_KEY]]];
  // Eight derivations of a key at the same time are slow, and the lock of the file does not depend on them.
  if (IS_FULL_RUN) keys.push(['a passphrase', PASSPHRASE]);

  it.each(keys)('all open it, with %s', async (_, key) => {
    const answers = openers.map((opener) => Promise.race([once(opener, 'message'), once(opener, 'exit')]));
    for (const opener of openers) opener.send({ backend: 'sqlite', path, key });
    for (const answer of await Promise.all(answers)) expect(answer[0]).toStrictEqual({ opened: true });
  });
});
