import {
  appendFileSync,
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RedisServer } from '../../../testkit/redis-server';
import { choicePath } from '../../backend-choice';
import { bytes, DAY, inventoryCoin, keyId, ManualClock, vaultKey } from '../../conformance/harness';
import {
  backupDeviceStorage,
  type DeviceStorage,
  moveDeviceStorage,
  openDeviceStorage,
  restoreDeviceStorage,
  type SqliteConfig,
} from '../../index';
import { digestsOf, fill } from '../moving/move-kit';
import { decryptPage, deriveKeys, pagesOf } from '../sqlite/sqlcipher-format';

const KEY = bytes(32, 5);
const CONTACT = { contactId: 'bob', userId: keyId(77) };
const PHONE = keyId(0xa1);

let folder: string;
let config: SqliteConfig;
let target: string;
let clock: ManualClock;
let handles: DeviceStorage[];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-backup-'));
  clock = new ManualClock();
  config = { backend: 'sqlite', path: join(folder, 'device.db'), key: KEY, now: clock.now };
  target = join(folder, 'backup.db');
  handles = [];
});
afterEach(async () => {
  for (const handle of handles) await handle.close();
  rmSync(folder, { recursive: true });
});

async function open(changes: Partial<SqliteConfig> = {}): Promise<DeviceStorage> {
  const storage = await openDeviceStorage({ ...config, ...changes });
  handles.push(storage);
  return storage;
}

/** Makes a storage with a key and a cached coin. */
async function make(changes: Partial<SqliteConfig> = {}): Promise<void> {
  const storage = await open(changes);
  await storage.vault.storeKey(vaultKey(1));
  await storage.inventory.setPriority('bob', 'BESTIE');
  await storage.inventory.storeKey(inventoryCoin(1, clock.in(DAY)));
  await storage.close();
}

describe('a backup', () => {
  it.each([
    ['a raw key', KEY],
    ['a passphrase', 'correct horse'],
  ])(
    'is complete and consistent, made while the storage is in use, and encrypted with the same key, %s',
    async (_, key) => {
      const storage = await open({ key });
      await fill(storage, clock);
      const second = await open({ key });
      await second.vault.storeKey(vaultKey(200));
      await backupDeviceStorage(storage, target);
      await storage.vault.storeKey(vaultKey(201));
      expect(readdirSync(folder).sort()).toStrictEqual([
        'backup.db',
        'device.db',
        'device.db-reserve',
        'device.db-shm',
        'device.db-wal',
      ]);
      expect(statSync(target).mode & 0o777).toBe(0o600);
      const file = readFileSync(target);
      const keys = deriveKeys(file, key);
      expect(pagesOf(file).map((page, index) => decryptPage(page, index + 1, keys))).not.toContain(null);
      const copy = await open({ path: target, key });
      expect(await copy.vault.getStatus(keyId(200))).toBe('ACTIVE');
      expect(await copy.vault.getStatus(keyId(201))).toBe('ABSENT');
      await copy.close();
      await storage.vault.burnKey(keyId(201));
      await second.close();
      const [original, copied] = [
        await digestsOf({ ...config, key }),
        await digestsOf({ ...config, key, path: target }),
      ];
      expect({ ...copied, vault_tombstone: '' }).toStrictEqual({ ...original, vault_tombstone: '' });
      await expect(open({ path: target, key: bytes(32, 6) })).rejects.toMatchObject({ name: 'WrongKeyError' });
    },
  );

  it('can be made from the config of a device that is not open', async () => {
    await make();
    const { generation } = await backupDeviceStorage(config, target);
    expect(generation).toBe(3);
    expect(await (await open({ path: target })).vault.listKeyIds()).toStrictEqual([keyId(1)]);
  });

  it('is refused where a file is, beside a folder that is missing, and of a storage that is gone, and leaves nothing', async () => {
    const storage = await open();
    writeFileSync(target, 'mine');
    for (const file of [target, config.path, `${config.path}-journal`]) {
      await expect(backupDeviceStorage(storage, file)).rejects.toMatchObject({ field: 'target' });
    }
    expect(readFileSync(target, 'utf8')).toBe('mine');
    const nowhere = join(folder, 'missing', 'backup.db');
    await expect(backupDeviceStorage(storage, nowhere)).rejects.toMatchObject({
      name: 'UnreachableError',
      path: nowhere,
    });
    await expect(backupDeviceStorage(storage, '')).rejects.toMatchObject({ field: 'target' });
    await storage.close();
    await expect(backupDeviceStorage(storage, `${target}.2`)).rejects.toMatchObject({ name: 'ClosedError' });
    rmSync(config.path);
    await expect(backupDeviceStorage(config, `${target}.2`)).rejects.toMatchObject({ name: 'StorageMissingError' });
    expect(readdirSync(folder)).toStrictEqual(['backup.db', 'device.db-reserve']);
  });
});

describe('the generation of a storage', () => {
  it('grows with every opening and every backup', async () => {
    const first = await open();
    const second = await open();
    expect([first.generation, second.generation]).toStrictEqual([1, 2]);
    expect(await backupDeviceStorage(first, target)).toStrictEqual({ generation: 3 });
    expect([first.generation, second.generation]).toStrictEqual([3, 2]);
    expect((await open({ generation: 3 })).generation).toBe(4);
  });

  it('tells an older copy that was put back, which stays as it is', async () => {
    await make();
    copyFileSync(config.path, target);
    const storage = await open();
    const { generation } = storage;
    await storage.close();
    copyFileSync(target, config.path);
    await expect(open({ generation })).rejects.toMatchObject({
      name: 'OlderStorageError',
      path: config.path,
      found: 1,
      kept: 2,
      message: `The device storage at ${config.path} is an older copy, of generation 1 instead of 2; call restoreDeviceStorage, then reconcileCoins.`,
    });
    await expect(open({ generation })).rejects.toMatchObject({ found: 1 });
    // Without the number that the app has kept, nothing tells.
    expect((await open()).generation).toBe(2);
  });

  it('tells that the -wal was lost', async () => {
    const storage = await open();
    await storage.cleanUp();
    const second = await open();
    const { generation } = second;
    copyFileSync(config.path, target);
    await expect(open({ path: target, generation })).rejects.toMatchObject({ name: 'OlderStorageError', found: 1 });
  });

  it('makes a missing file a StorageMissingError', async () => {
    await expect(open({ generation: 1 })).rejects.toMatchObject({ name: 'StorageMissingError' });
    expect(readdirSync(folder)).toStrictEqual([]);
  });

  it.each([
    ['no number', { generation: '1' }],
    ['a fraction', { generation: 1.5 }],
    ['less than 0', { generation: -1 }],
    ['given with create: true', { generation: 1, create: true }],
  ])('is refused if it is %s', async (_, changes) => {
    await expect(open(changes as never)).rejects.toMatchObject({ field: 'generation' });
    expect(readdirSync(folder)).toStrictEqual([]);
  });
});

describe('restoring a backup', () => {
  it('brings back the vault, and drops every coin and request that may have been used since', async () => {
    await make();
    const storage = await open();
    await storage.pendingRequests.learnDevices('bob', ['', PHONE]);
    const ofPhone = inventoryCoin(3, clock.in(DAY), { deviceId: PHONE });
    await storage.inventory.storeKey(ofPhone);
    await storage.pendingRequests.reserveRoom([CONTACT]);
    await backupDeviceStorage(storage, target);
    expect((await storage.inventory.selectCoin('bob', 'GOLD'))?.keyId).toBe(keyId(1));
    await storage.vault.storeKey(vaultKey(2));
    const { generation: kept } = storage;
    await storage.close();
    const { generation } = await restoreDeviceStorage({ ...config, generation: kept }, target);
    expect(generation).toBeGreaterThan(kept ?? 0);
    expect(readdirSync(folder).sort()).toStrictEqual(['backup.db', 'device.db', 'device.db-reserve']);
    expect(statSync(config.path).mode & 0o777).toBe(0o600);
    const restored = await open({ generation });
    expect(await restored.vault.listKeyIds()).toStrictEqual([keyId(1)]);
    const none = [{ coin: null }, { deviceId: PHONE, coin: null }];
    expect(await restored.inventory.selectCoins('bob', 'GOLD')).toStrictEqual(none);
    expect(await restored.inventory.storeKey(inventoryCoin(1, clock.in(DAY)))).toBe(false);
    expect(await restored.inventory.storeKey(ofPhone)).toBe(false);
    expect(await restored.inventory.getPriority('bob')).toBe('BESTIE');
    expect(await restored.pendingRequests.resumeTopUps([CONTACT])).toStrictEqual([]);
  });

  it('remembers a dropped coin until it expires, also if an earlier coin of that id was used', async () => {
    await make();
    const storage = await open();
    expect((await storage.inventory.selectCoin('bob', 'GOLD'))?.keyId).toBe(keyId(1));
    clock.advance(DAY);
    const again = inventoryCoin(1, clock.in(DAY));
    expect(await storage.inventory.storeKey(again)).toBe(true);
    await backupDeviceStorage(storage, target);
    await storage.close();
    await restoreDeviceStorage(config, target);
    expect(await (await open()).inventory.storeKey(again)).toBe(false);
  });

  it('takes the place of a file that is gone, and removes the newer -wal that was left, which would mix with it', async () => {
    const storage = await open();
    for (let n = 0; n < 40; n += 1) await storage.vault.storeKey(vaultKey(n));
    await backupDeviceStorage(storage, target);
    for (let n = 0; n < 20; n += 1) await storage.vault.burnKey(keyId(n));
    const left = ['-wal', '-shm'].map((suffix) => [suffix, readFileSync(`${config.path}${suffix}`)] as const);
    await storage.close();
    rmSync(config.path);
    for (const [suffix, content] of left) writeFileSync(`${config.path}${suffix}`, content);
    await restoreDeviceStorage(config, target);
    expect(readdirSync(folder).sort()).toStrictEqual(['backup.db', 'device.db', 'device.db-reserve']);
    const { vault } = await open();
    const ids = await vault.listKeyIds();
    expect(ids).toHaveLength(40);
    for (const id of ids) expect(await vault.fetchKey(id)).not.toBeNull();
  });

  it('adopts an older copy that another program has put in the place of the storage', async () => {
    await make();
    copyFileSync(config.path, target);
    const storage = await open();
    await storage.inventory.selectCoin('bob', 'GOLD');
    const { generation: kept } = storage;
    await storage.close();
    copyFileSync(target, config.path);
    await expect(open({ generation: kept })).rejects.toMatchObject({ name: 'OlderStorageError' });
    const { generation } = await restoreDeviceStorage({ ...config, generation: kept }, config.path);
    const restored = await open({ generation });
    expect(await restored.inventory.selectCoin('bob', 'GOLD')).toBeNull();
    expect(await restored.vault.listKeyIds()).toStrictEqual([keyId(1)]);
  });

  it('is refused while the storage is open, which stays usable', async () => {
    await make();
    await backupDeviceStorage(config, target);
    const storage = await open();
    await expect(restoreDeviceStorage(config, target)).rejects.toMatchObject({ name: 'StorageBusyError' });
    expect(await storage.vault.burnKey(keyId(1))).toBe(true);
    expect(readdirSync(folder).filter((name) => name.startsWith('device.db.'))).toStrictEqual([]);
  });

  it('refuses what is no backup of this device, names it, and changes nothing', async () => {
    await make();
    await backupDeviceStorage(config, target);
    const other = join(folder, 'other.db');
    await (await open({ path: other, key: bytes(32, 6) })).close();
    const damaged = join(folder, 'damaged.db');
    copyFileSync(target, damaged);
    const descriptor = openSync(damaged, 'r+');
    writeSync(descriptor, Buffer.from('damage'), 0, 6, 10 * 4096 + 1000);
    closeSync(descriptor);
    const text = join(folder, 'text');
    appendFileSync(text, 'hello');
    const live = join(folder, 'live.db');
    copyFileSync(target, live);
    writeFileSync(`${live}-wal`, 'frames');
    const names = readdirSync(folder);
    const missing = join(folder, 'missing.db');
    const cases: [string, object][] = [
      [missing, { name: 'StorageMissingError', path: missing }],
      [other, { name: 'WrongKeyError', path: other }],
      [text, { name: 'NotADatabaseError', path: text }],
      [damaged, { name: 'StorageCorruptedError' }],
      [live, { name: 'InvalidArgumentError', field: 'source' }],
      [':memory:', { name: 'InvalidArgumentError', field: 'source' }],
    ];
    for (const [source, error] of cases) {
      await expect(restoreDeviceStorage(config, source)).rejects.toMatchObject(error);
    }
    // Nor does it replace a file that belongs to another device.
    await expect(restoreDeviceStorage({ ...config, path: other }, target)).rejects.toMatchObject({ path: other });
    expect(readdirSync(folder)).toStrictEqual(names);
    expect((await open()).generation).toBe(4);
  });

  it('brings no device to life that was moved to another storage', async () => {
    await make();
    await backupDeviceStorage(config, target);
    await moveDeviceStorage(config, { ...config, path: join(folder, 'moved.db') });
    await expect(restoreDeviceStorage(config, target)).rejects.toMatchObject({ name: 'StorageMovedError' });
  });

  it('reads a backup that this process may not write', async () => {
    await make();
    await backupDeviceStorage(config, target);
    chmodSync(target, 0o400);
    const before = readFileSync(target);
    await restoreDeviceStorage(config, target);
    expect(readFileSync(target).equals(before)).toBe(true);
    expect(statSync(config.path).mode & 0o777).toBe(0o600);
  });

  it('restores an auto device on SQLite, and records that choice', async () => {
    await make();
    await backupDeviceStorage(config, target);
    rmSync(config.path);
    const auto = { ...config, backend: 'auto', url: 'redis://127.0.0.1:1', namespace: 'n' } as const;
    const { generation } = await restoreDeviceStorage(auto, target);
    expect(existsSync(choicePath(config.path))).toBe(true);
    const storage = await openDeviceStorage({ ...auto, generation });
    handles.push(storage);
    expect([storage.backend, await storage.vault.listKeyIds()]).toStrictEqual(['sqlite', [keyId(1)]]);
  });
});

describe('a device on Redis', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server.destroy());

  it('has no backup and no generation, and says so', async () => {
    const redis = { backend: 'redis', url: server.url, namespace: 'n', key: KEY } as const;
    const auto = { ...redis, backend: 'auto', path: config.path, onWarning: () => undefined } as const;
    const storage = await openDeviceStorage(redis);
    handles.push(storage);
    expect(storage.generation).toBeUndefined();
    const refused = { name: 'InvalidArgumentError', field: 'backend' };
    await (await openDeviceStorage(auto)).close();
    for (const from of [storage, redis, auto]) {
      await expect(backupDeviceStorage(from, target)).rejects.toMatchObject(refused);
    }
    for (const to of [redis as never, auto])
      await expect(restoreDeviceStorage(to, target)).rejects.toMatchObject(refused);
    for (const from of [redis, auto]) {
      const open = openDeviceStorage({ ...from, generation: 1 } as never);
      await expect(open).rejects.toMatchObject({ field: 'generation' });
    }
    expect(readdirSync(folder)).toStrictEqual(['device.db.backend']);
  });
});
