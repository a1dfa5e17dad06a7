import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bytes, keyId, vaultKey } from '../../conformance/harness';
import { type DeviceStorage, openDeviceStorage, rekeyDeviceStorage } from '../../index';
import { decryptPage, deriveKeys, pagesOf } from '../sqlite/sqlcipher-format';

const OLD = bytes(32, 1);
const NEW = bytes(32, 2);
const KEYS = 3;
const BLOBS = Array.from({ length: KEYS }, (_, n) => bytes(60_000, n));

let folder: string;
let path: string;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-rekey-'));
  path = join(folder, 'device.db');
});
afterEach(() => rmSync(folder, { recursive: true }));

const open = (key: Uint8Array | string) => openDeviceStorage({ backend: 'sqlite', path, key });

async function create(key: Uint8Array | string, keys = KEYS): Promise<void> {
  const { vault, close } = await open(key);
  for (let n = 0; n < keys; n += 1) await vault.storeKey(vaultKey(n, { encryptedBlob: BLOBS[n] }));
  await close();
}

async function expectAll({ vault }: DeviceStorage, keys = KEYS): Promise<void> {
  expect(await vault.listKeyIds()).toHaveLength(keys);
  for (let n = 0; n < keys; n += 1) {
    const entry = await vault.fetchKey(keyId(n));
    expect(Buffer.from(entry?.encryptedBlob ?? []).equals(BLOBS[n] ?? Buffer.alloc(0))).toBe(true);
  }
}

describe('giving a storage another key', () => {
  it.each([
    ['a raw key', 'another raw key', OLD, NEW],
    ['a raw key', 'a passphrase', OLD, 'open sesame'],
    ['a passphrase', 'a raw key', 'open sesame', NEW],
    ['a passphrase', 'another passphrase', 'open sesame', 'ouvre-toi'],
  ])('turns %s into %s, and the old one opens nothing', async (_from, _to, from, to) => {
    await create(from);
    const salt = readFileSync(path).subarray(0, 16);
    await rekeyDeviceStorage(path, from, to);
    expect(readdirSync(folder)).toStrictEqual(['device.db', 'device.db-reserve']);
    await expect(open(from)).rejects.toMatchObject({ name: 'WrongKeyError' });
    const storage = await open(to);
    await expectAll(storage);
    await storage.close();
    const file = readFileSync(path);
    // With another salt, a kill in the middle would leave a file that no key opens. `npm run crash` kills it there.
    expect(file.subarray(0, 16).equals(salt)).toBe(true);
    const pages = pagesOf(file);
    const readable = (key: Uint8Array | string) => {
      const keys = deriveKeys(file, key);
      return pages.filter((page, index) => decryptPage(page, index + 1, keys) !== null).length;
    };
    expect([readable(from), readable(to)]).toStrictEqual([0, pages.length]);
  });

  it('changes nothing the second time', async () => {
    await create(OLD, 1);
    await rekeyDeviceStorage(path, OLD, NEW);
    const before = readFileSync(path);
    await rekeyDeviceStorage(path, OLD, NEW);
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  it('takes either form of a passphrase, and refuses one that would not be a passphrase at the next opening', async () => {
    await create('sésame'.normalize('NFD'), 1);
    await rekeyDeviceStorage(path, 'sésame'.normalize('NFC'), 'Käse'.normalize('NFD'));
    await (await open('Käse'.normalize('NFC'))).close();
    const before = readFileSync(path);
    for (const key of [`raw:${'z'.repeat(32)}`, `Raw:${'0'.repeat(64)}`]) {
      await expect(rekeyDeviceStorage(path, 'Käse', key)).rejects.toMatchObject({ field: 'key' });
      await expect(rekeyDeviceStorage(path, key, NEW)).rejects.toMatchObject({ field: 'key' });
    }
    await expect(rekeyDeviceStorage(':memory:', OLD, NEW)).rejects.toMatchObject({ field: 'path' });
    expect(readFileSync(path).equals(before)).toBe(true);
    for (const key of ['ab'.repeat(32), 'cd'.repeat(48)]) {
      await rekeyDeviceStorage(path, 'Käse', key);
      await (await open(key)).close();
      await rekeyDeviceStorage(path, key, 'Käse');
    }
  });

  it('answers StorageBusyError while a handle is open, which stays usable', async () => {
    await create(OLD, 1);
    const { vault, close } = await open(OLD);
    await expect(rekeyDeviceStorage(path, OLD, NEW)).rejects.toMatchObject({ name: 'StorageBusyError' });
    expect(await vault.burnKey(keyId(0))).toBe(true);
    await close();
    await rekeyDeviceStorage(path, OLD, NEW);
    const again = await open(NEW);
    expect(await again.vault.getStatus(keyId(0))).toBe('BURNED');
    await again.close();
  });

  it('answers WrongKeyError, KeyMissingError, InvalidArgumentError and StorageMissingError, and changes nothing', async () => {
    await expect(rekeyDeviceStorage(path, OLD, NEW)).rejects.toMatchObject({ name: 'StorageMissingError', path });
    expect(readdirSync(folder)).toStrictEqual([]);
    await create(OLD, 1);
    const before = readFileSync(path);
    await expect(rekeyDeviceStorage(path, bytes(32, 3), NEW)).rejects.toMatchObject({ name: 'WrongKeyError' });
    await expect(rekeyDeviceStorage(path, OLD, '')).rejects.toMatchObject({ name: 'KeyMissingError' });
    await expect(rekeyDeviceStorage(path, OLD, bytes(31, 3))).rejects.toMatchObject({ field: 'key' });
    await expect(rekeyDeviceStorage('', OLD, NEW)).rejects.toMatchObject({ field: 'path' });
    expect(readFileSync(path).equals(before)).toBe(true);
  });
});
