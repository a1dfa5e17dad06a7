import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RedisServer } from '../../../testkit/redis-server';
import { choicePath } from '../../backend-choice';
import { bytes, DAY, inventoryCoin, keyId, mintedCoin, vaultKey } from '../../conformance/harness';
import {
  type AutoConfig,
  type DeviceStorage,
  moveDeviceStorage,
  openDeviceStorage,
  rekeyDeviceStorage,
  type SqliteConfig,
} from '../../index';

const KEY = bytes(32, 5);
const NO_REDIS = 'redis://127.0.0.1:1';

let folder: string;
let path: string;
let handles: DeviceStorage[];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-missing-'));
  path = join(folder, 'device.db');
  handles = [];
});
afterEach(async () => {
  for (const handle of handles) await handle.close();
  rmSync(folder, { recursive: true });
});

async function open(changes: Partial<SqliteConfig> = {}): Promise<DeviceStorage> {
  const storage = await openDeviceStorage({ backend: 'sqlite', path, key: KEY, ...changes });
  handles.push(storage);
  return storage;
}

async function openAuto(changes: Partial<AutoConfig> = {}): Promise<DeviceStorage> {
  const auto = { backend: 'auto', path, key: KEY, url: NO_REDIS, namespace: path, onWarning: () => undefined } as const;
  const storage = await openDeviceStorage({ ...auto, ...changes });
  handles.push(storage);
  return storage;
}

/** Makes a storage with one key, and closes it. */
async function make(): Promise<void> {
  const storage = await open();
  await storage.vault.storeKey(vaultKey(1));
  await storage.close();
}

const removeFiles = () => {
  for (const suffix of ['', '-wal', '-shm']) rmSync(`${path}${suffix}`, { force: true });
};
const gone = (file = path) => ({ name: 'StorageMissingError', path: file });

/** Ways in which a storage is gone. */
const WAYS: [string, () => void][] = [
  ['was deleted', removeFiles],
  ['has no bytes left', () => truncateSync(path, 0)],
];

describe('a storage that must be there', () => {
  it.each(WAYS)(
    'is a StorageMissingError with create: false when its file %s, and nothing is created',
    async (_, lose) => {
      await make();
      lose();
      const before = readdirSync(folder);
      await expect(open({ create: false })).rejects.toMatchObject({
        ...gone(),
        message: `The device storage at ${path} is gone; restore it from a backup, or open it with create: true and call reconcileCoins.`,
      });
      expect(readdirSync(folder)).toStrictEqual(before);
      // Without create: false it is a first opening.
      expect(await (await open()).vault.listKeyIds()).toStrictEqual([]);
    },
  );

  it('opens with create: false when it is there', async () => {
    await make();
    expect(await (await open({ create: false })).vault.listKeyIds()).toStrictEqual([keyId(1)]);
  });

  it('is missing when only its -wal is there, which is kept unless create is true', async () => {
    const storage = await open();
    await storage.vault.storeKey(vaultKey(1));
    const wal = readFileSync(`${path}-wal`);
    await storage.close();
    for (const lose of [() => rmSync(path), () => writeFileSync(path, '')]) {
      lose();
      writeFileSync(`${path}-wal`, wal);
      await expect(open()).rejects.toMatchObject(gone());
      expect(readFileSync(`${path}-wal`).equals(wal)).toBe(true);
    }
    expect(await (await open({ create: true })).vault.listKeyIds()).toStrictEqual([]);
  });

  it.each(WAYS)(
    'is a StorageMissingError for an auto device on SQLite whose file %s, until create is true',
    async (_, lose) => {
      const first = await openAuto();
      await first.vault.storeKey(vaultKey(1));
      await first.close();
      lose();
      for (const create of [undefined, false]) await expect(openAuto({ create })).rejects.toMatchObject(gone());
      const again = await openAuto({ create: true });
      expect([again.backend, await again.vault.listKeyIds()]).toStrictEqual(['sqlite', []]);
      await again.close();
      expect((await openAuto()).backend).toBe('sqlite');
    },
  );

  it('is created for an auto device that died between its choice and the creation', async () => {
    writeFileSync(choicePath(path), '{"form":1,"backend":"sqlite","created":false}\n');
    await expect(openAuto({ create: false })).rejects.toMatchObject(gone());
    await (await openAuto()).close();
    expect(JSON.parse(readFileSync(choicePath(path), 'utf8'))).toStrictEqual({ form: 1, backend: 'sqlite' });
    removeFiles();
    await expect(openAuto()).rejects.toMatchObject(gone());
  });

  it('is not called missing for an auto device without a record while its Redis is down', async () => {
    await expect(openAuto({ create: false })).rejects.toMatchObject({
      name: 'UnreachableError',
      path: `${NO_REDIS}/0`,
    });
    expect(readdirSync(folder)).toStrictEqual([]);
  });

  it('is neither moved nor given another key when its file has no bytes left', async () => {
    writeFileSync(path, '');
    const to = join(folder, 'target.db');
    const source: SqliteConfig = { backend: 'sqlite', path, key: KEY };
    await expect(moveDeviceStorage(source, { ...source, path: to })).rejects.toMatchObject(gone());
    await expect(rekeyDeviceStorage(path, KEY, bytes(32, 6))).rejects.toMatchObject(gone());
    expect(readdirSync(folder)).toStrictEqual(['device.db']);
    expect(readFileSync(path)).toHaveLength(0);
  });

  it('refuses a create that is no boolean', async () => {
    await expect(open({ create: 'no' as never })).rejects.toMatchObject({ field: 'create' });
    expect(existsSync(path)).toBe(false);
  });
});

describe('a device on a Redis that has lost it', () => {
  let server: RedisServer;
  beforeEach(async () => {
    server = await RedisServer.start();
  });
  afterEach(async () => {
    for (const handle of handles) await handle.close();
    await server.destroy();
  });

  it('is a StorageMissingError for an auto device with a record, until create is true', async () => {
    const first = await openAuto({ url: server.url });
    expect(first.backend).toBe('redis');
    await first.vault.storeKey(vaultKey(1));
    await first.close();
    await server.client().flushall();
    for (const create of [undefined, false]) {
      await expect(openAuto({ url: server.url, create })).rejects.toMatchObject({ name: 'StorageMissingError' });
    }
    expect(await server.client().dbsize()).toBe(0);
    const again = await openAuto({ url: server.url, create: true });
    expect([again.backend, await again.vault.listKeyIds()]).toStrictEqual(['redis', []]);
  });

  it('is a StorageMissingError with create: false, and an auto device without a record chooses nothing', async () => {
    const redis = { backend: 'redis', url: server.url, namespace: path, key: KEY, create: false } as const;
    await expect(openDeviceStorage(redis)).rejects.toMatchObject({ name: 'StorageMissingError' });
    await expect(openAuto({ url: server.url, create: false })).rejects.toMatchObject({ name: 'StorageMissingError' });
    expect(await server.client().dbsize()).toBe(0);
    expect(readdirSync(folder)).toStrictEqual([]);
  });
});

/** Every call that writes, or whose result others take as complete. */
function callsOf({
  vault,
  inventory,
  outbox,
  pendingRequests,
  cleanUp,
  maintain,
}: DeviceStorage): (() => Promise<unknown>)[] {
  const contact = { contactId: 'bob', userId: keyId(77) };
  return [
    () => vault.storeKey(vaultKey(2)),
    () => vault.burnKey(keyId(1)),
    () => vault.purgeExpired(),
    () => vault.listKeyIds(),
    () => inventory.storeKey(inventoryCoin(1, new Date(Date.now() + DAY))),
    () => inventory.selectCoin('bob', 'GOLD'),
    () => inventory.selectCoins('bob', 'GOLD'),
    () => inventory.setPriority('bob', 'BESTIE'),
    () => inventory.garbageCollect(),
    () => inventory.forgetContact('bob'),
    () => inventory.dropCachedCoins(),
    () => outbox.add([mintedCoin(3)]),
    () => outbox.takeBatch(keyId(9), 0, 10),
    () => pendingRequests.learnDevices('carol', []),
    () => pendingRequests.reserveRoom([contact]),
    () =>
      pendingRequests.openOnDemand({ ...contact, coinCategory: 'GOLD', allowLowerCategories: false }, { fresh: false }),
    () => cleanUp(),
    () => maintain(),
  ];
}

describe('a storage whose file goes away while it is open', () => {
  it('accepts no write after it was deleted, and leaves the storage that took its place alone', async () => {
    const storage = await open();
    await storage.vault.storeKey(vaultKey(1));
    removeFiles();
    for (const call of callsOf(storage)) await expect(call()).rejects.toMatchObject(gone());
    expect(readdirSync(folder)).toStrictEqual(['device.db-reserve']);
    const next = await open();
    await next.vault.storeKey(vaultKey(4));
    for (const call of callsOf(storage)) await expect(call()).rejects.toMatchObject(gone());
    await storage.close();
    expect(existsSync(`${path}-wal`)).toBe(true);
    await next.vault.storeKey(vaultKey(5));
    await next.close();
    expect(await (await open()).vault.listKeyIds()).toStrictEqual([keyId(4), keyId(5)]);
  });

  it('accepts no write after an older copy was put in its place', async () => {
    const storage = await open();
    await storage.vault.storeKey(vaultKey(1));
    await storage.cleanUp();
    copyFileSync(path, `${path}.old`);
    await storage.vault.storeKey(vaultKey(6));
    renameSync(`${path}.old`, path);
    for (const call of callsOf(storage)) await expect(call()).rejects.toMatchObject(gone());
  });

  it('accepts no write after its -wal was deleted, and has everything again once it is closed', async () => {
    const storage = await open();
    await storage.vault.storeKey(vaultKey(1));
    rmSync(`${path}-wal`);
    for (const call of callsOf(storage)) await expect(call()).rejects.toMatchObject(gone(`${path}-wal`));
    await storage.close();
    expect(await (await open()).vault.listKeyIds()).toStrictEqual([keyId(1)]);
  });

  it('keeps accepting writes while other handles come and go', async () => {
    const storage = await open();
    for (let n = 1; n < 5; n += 1) {
      const other = await open();
      await other.vault.storeKey(vaultKey(n));
      await other.cleanUp();
      await other.close();
      expect(await storage.vault.burnKey(keyId(n))).toBe(true);
    }
  });
});

describe('a relative path', () => {
  const cwd = process.cwd();
  afterEach(() => process.chdir(cwd));

  it('is resolved once: the storage works after a change of the working directory, and errors name the file', async () => {
    mkdirSync(join(folder, 'elsewhere'));
    process.chdir(folder);
    const storage = await open({ path: 'device.db' });
    process.chdir(join(folder, 'elsewhere'));
    await storage.vault.storeKey(vaultKey(1));
    await storage.cleanUp();
    await storage.close();
    expect([readdirSync('.'), readdirSync(folder)]).toStrictEqual([
      [],
      ['device.db', 'device.db-reserve', 'elsewhere'],
    ]);
    const absolute = join(process.cwd(), 'device.db');
    await expect(open({ path: 'device.db', create: false })).rejects.toMatchObject(gone(absolute));
    await expect(open({ path: '../device.db', key: bytes(32, 6) })).rejects.toMatchObject({
      name: 'WrongKeyError',
      path: join(process.cwd(), '..', 'device.db'),
    });
  });
});
