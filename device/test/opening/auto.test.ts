import { fork } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { RedisServer } from '../../../testkit/redis-server';
import { compiled } from '../../../testkit/root';
import { choicePath } from '../../backend-choice';
import { bytes, keyId, vaultKey } from '../../conformance/harness';
import { type AutoConfig, type DeviceStorageWarning, openDeviceStorage } from '../../index';

const WORKER = compiled('device/test/opening/auto-worker');
const KEY = bytes(32, 5);
const NO_REDIS = 'redis://127.0.0.1:1';

let server: RedisServer;
let folder: string;
let path: string;
let warnings: DeviceStorageWarning[];
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-auto-'));
  path = join(folder, 'device.db');
  warnings = [];
  server = await RedisServer.start();
});
afterEach(async () => {
  await server.destroy();
  rmSync(folder, { recursive: true });
});

const config = (changes: Partial<AutoConfig> = {}): AutoConfig => ({
  backend: 'auto',
  path,
  key: KEY,
  url: server.url,
  namespace: path,
  onWarning: (warning) => {
    // Depends on the installed redis-server.
    if (warning.code !== 'AQM_REDIS_VERSION') warnings.push(warning);
  },
  ...changes,
});
const open = (changes: Partial<AutoConfig> = {}) => openDeviceStorage(config(changes));
const recorded = (): unknown => JSON.parse(readFileSync(choicePath(path), 'utf8'));

describe('a device that chooses its own backend', () => {
  it('takes Redis when it is up at the first opening, silently', async () => {
    const storage = await open();
    expect(storage.backend).toBe('redis');
    await storage.close();
    expect(recorded()).toStrictEqual({ form: 1, backend: 'redis' });
    expect(warnings).toStrictEqual([]);
    // There is neither a database nor a draft of the record.
    expect(readdirSync(folder)).toStrictEqual(['device.db.backend']);
    expect(statSync(choicePath(path)).mode & 0o777).toBe(0o600);
  });

  it('takes SQLite when Redis is down at the first opening, warns once, and keeps to it when Redis is up again', async () => {
    await server.shutDown();
    const first = await open();
    expect(first.backend).toBe('sqlite');
    expect(warnings).toEqual([{ code: 'AQM_AUTO_FELL_BACK', message: expect.stringContaining(path) }]);
    await first.vault.storeKey(vaultKey(1));
    await first.close();
    await server.restart();
    const second = await open();
    expect(second.backend).toBe('sqlite');
    expect(await second.vault.getStatus(keyId(1))).toBe('ACTIVE');
    await second.close();
    expect(warnings).toHaveLength(1);
  });

  it('takes SQLite when Redis is full at the first opening, and warns', async () => {
    await server.client().config('SET', 'maxmemory', '1');
    const storage = await open();
    expect(storage.backend).toBe('sqlite');
    expect(recorded()).toStrictEqual({ form: 1, backend: 'sqlite' });
    expect(warnings).toEqual([{ code: 'AQM_AUTO_FELL_BACK', message: expect.stringContaining('full') }]);
    await storage.close();
  });

  it.each([
    ['would keep nothing on disk', { appendonly: 'no' }],
    ['would evict keys', { maxmemory: '100mb', 'maxmemory-policy': 'allkeys-lru' }],
  ])('takes SQLite when Redis %s, and warns; with allowVolatile it takes Redis', async (_, settings) => {
    const client = server.client();
    for (const [name, value] of Object.entries(settings)) await client.config('SET', name, value);
    const storage = await open();
    expect(storage.backend).toBe('sqlite');
    const [[name, value] = []] = Object.entries(settings).reverse();
    expect(warnings).toEqual([{ code: 'AQM_AUTO_FELL_BACK', message: expect.stringContaining(`${name} ${value}`) }]);
    await storage.close();
    const other = await open({ path: join(folder, 'other.db'), namespace: 'other', allowVolatile: true });
    expect(other.backend).toBe('redis');
    await other.close();
  });

  it('warns on stderr when the application has no onWarning', async () => {
    const worker = fork(WORKER, { silent: true });
    const printed = text(worker.stderr ?? process.stdin);
    await once(worker, 'message');
    worker.send({ path, key: [...KEY], url: NO_REDIS, namespace: path });
    expect(await once(worker, 'message')).toMatchObject(['sqlite']);
    worker.disconnect();
    expect(await printed).toMatch(/\[AQM_AUTO_FELL_BACK\] DeviceStorageWarning: /);
  });

  it('answers UnreachableError while its Redis is down, creates no other storage, and has its keys afterwards', async () => {
    const storage = await open();
    await storage.vault.storeKey(vaultKey(1));
    await storage.close();
    await server.shutDown();
    await expect(open()).rejects.toMatchObject({ name: 'UnreachableError', path: server.url });
    expect(existsSync(path)).toBe(false);
    await server.restart();
    const again = await open();
    expect(again.backend).toBe('redis');
    expect(await again.vault.getStatus(keyId(1))).toBe('ACTIVE');
    await again.close();
  });

  it('answers the error of SQLite when that was its choice, also while Redis is up', async () => {
    await server.shutDown();
    await (await open()).close();
    await server.restart();
    rmSync(path);
    mkdirSync(path);
    await expect(open()).rejects.toMatchObject({ name: 'UnreachableError', path });
  });

  it('keeps to the file of a device that was opened with SQLite before', async () => {
    const before = await openDeviceStorage({ backend: 'sqlite', path, key: KEY });
    await before.vault.storeKey(vaultKey(1));
    await before.close();
    const storage = await open();
    expect(storage.backend).toBe('sqlite');
    expect(await storage.vault.getStatus(keyId(1))).toBe('ACTIVE');
    expect(recorded()).toStrictEqual({ form: 1, backend: 'sqlite' });
    await storage.close();
  });

  it.each([
    ['nothing', ''],
    ['no JSON', 'redis'],
    ['another backend', '{"form":1,"backend":"paper"}'],
    ['a newer form', '{"form":2,"backend":"redis"}'],
    ['no object', 'null'],
  ])('answers BackendRecordError to a record with %s, and opens nothing', async (_, record) => {
    writeFileSync(choicePath(path), record);
    await expect(open()).rejects.toMatchObject({ name: 'BackendRecordError', path: choicePath(path) });
    expect(readdirSync(folder)).toStrictEqual(['device.db.backend']);
    expect(readFileSync(choicePath(path), 'utf8')).toBe(record);
  });

  it('answers BackendRecordError to a record that cannot be read', async () => {
    mkdirSync(choicePath(path));
    await expect(open()).rejects.toMatchObject({ name: 'BackendRecordError', cause: { code: 'EISDIR' } });
  });

  it('answers UnreachableError when the choice cannot be recorded, with Redis up or down', async () => {
    const nowhere = join(folder, 'missing', 'device.db');
    await expect(open({ path: nowhere })).rejects.toMatchObject({ name: 'UnreachableError' });
    await server.shutDown();
    await expect(open({ path: nowhere })).rejects.toMatchObject({ name: 'UnreachableError' });
  });

  it('takes either form of a passphrase on Redis too', async () => {
    for (const [form, other] of [
      ['NFC', 'NFD'],
      ['NFD', 'NFC'],
    ] as const) {
      const at = { path: join(folder, form), namespace: form };
      await (await open({ ...at, key: 'sésame'.normalize(form) })).close();
      await (await open({ ...at, key: 'sésame'.normalize(other) })).close();
      await expect(open({ ...at, key: 'sesame' })).rejects.toMatchObject({ name: 'WrongKeyError' });
    }
  });

  it('decides nothing when the namespace belongs to another key', async () => {
    await (await openDeviceStorage({ backend: 'redis', url: server.url, namespace: path, key: bytes(32, 6) })).close();
    await expect(open()).rejects.toMatchObject({ name: 'WrongKeyError' });
    expect(readdirSync(folder)).toStrictEqual([]);
  });

  it.each([
    ['key', 'KeyMissingError', { key: undefined }],
    ['url', 'InvalidArgumentError', { url: 'http://localhost' }],
    ['namespace', 'InvalidArgumentError', { namespace: '' }],
    ['path', 'InvalidArgumentError', { path: '' }],
    ['onWarning', 'InvalidArgumentError', { onWarning: 'loud' }],
    ['allowVolatile', 'InvalidArgumentError', { allowVolatile: 'yes' }],
  ])('refuses a bad %s and decides nothing', async (_, name, changes) => {
    await expect(open(changes as never)).rejects.toMatchObject({ name });
    expect(readdirSync(folder)).toStrictEqual([]);
  });

  it('follows a choice of Redis that another process made while it found none, and creates no storage of its own', async () => {
    const held: Socket[] = [];
    const silent = createServer((socket) => held.push(socket)).listen(0, '127.0.0.1');
    try {
      await once(silent, 'listening');
      const { port } = silent.address() as AddressInfo;
      const late = open({ url: `redis://127.0.0.1:${port}` });
      await once(silent, 'connection');
      const first = await open();
      expect(first.backend).toBe('redis');
      silent.close();
      for (const socket of held) socket.destroy();
      await expect(late).rejects.toMatchObject({ name: 'UnreachableError' });
      expect(readdirSync(folder)).toStrictEqual(['device.db.backend']);
      expect(warnings).toStrictEqual([]);
      await first.close();
    } finally {
      silent.close();
    }
  });

  it('makes one choice when eight processes open it first at the same time, half of them without Redis', async () => {
    const workers = Array.from({ length: 8 }, () => fork(WORKER, { silent: true }));
    try {
      await Promise.all(workers.map((worker) => once(worker, 'message')));
      for (let round = 0; round < 3; round += 1) {
        const target = join(folder, `race-${round}.db`);
        const answers = workers.map((worker) => Promise.race([once(worker, 'message'), once(worker, 'exit')]));
        for (const [index, worker] of workers.entries()) {
          const url = index % 2 === 0 ? server.url : NO_REDIS;
          worker.send({ path: target, key: [...KEY], url, namespace: target });
        }
        const outcomes = (await Promise.all(answers)).map(([answer]: string[]) => answer);
        const { backend }: { backend: string } = JSON.parse(readFileSync(choicePath(target), 'utf8'));
        // Processes that cannot reach the chosen Redis get a named error, and no storage.
        const expected = outcomes.map((_, index) =>
          backend === 'sqlite' || index % 2 === 0 ? backend : 'UnreachableError',
        );
        expect(outcomes).toStrictEqual(expected);
      }
    } finally {
      for (const worker of workers) worker.kill();
    }
  });
});
