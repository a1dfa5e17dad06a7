import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bytes, DAY, HOUR, inventoryCoin, keyId, ManualClock, mintedCoin, vaultKey } from '../../conformance/harness';
import { openDeviceStorage } from '../../index';
import { RAW_KEY } from './harness';

/**
 * True if this process may mount a file system that is small enough to fill. Other users test with max_page_count
 * alone.
 */
const mayMount = process.platform === 'linux' && process.getuid?.() === 0;
const describeWithDisk = mayMount ? describe : describe.skip;

let folder: string;
let path: string;
const mount = (...options: string[]) =>
  execFileSync('mount', ['-t', 'tmpfs', '-o', options.join(','), 'aqm-test', folder]);
const remount = (...options: string[]) => execFileSync('mount', ['-o', ['remount', ...options].join(','), folder]);

describeWithDisk('a SQLite storage on a disk of its own', () => {
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'aqm-disk-'));
    path = join(folder, 'device.db');
    mount('size=4m');
  });
  afterEach(() => {
    execFileSync('umount', [folder]);
    rmSync(folder, { recursive: true });
  });

  const open = () => openDeviceStorage({ backend: 'sqlite', path, key: RAW_KEY });
  const largeKey = (n: number) => vaultKey(n, { encryptedBlob: bytes(60_000, n) });

  it('answers StorageFullError when the disk is full, has every acknowledged key, and works again when there is space', async () => {
    const { vault, outbox, close } = await open();
    let acknowledged = 0;
    let refused: unknown;
    while (refused === undefined) {
      await vault.storeKey(largeKey(acknowledged)).then(
        () => {
          acknowledged += 1;
        },
        (error: unknown) => {
          refused = error;
        },
      );
    }
    expect(refused).toMatchObject({ name: 'StorageFullError', cause: { code: 'SQLITE_FULL' } });
    expect(acknowledged).toBeGreaterThan(3);
    const minted = Array.from({ length: 40 }, (_, n) => mintedCoin(100 + n));
    await expect(outbox.add(minted)).rejects.toMatchObject({ name: 'StorageFullError' });
    const ids = Array.from({ length: acknowledged }, (_, n) => keyId(n));
    expect(await vault.listKeyIds()).toStrictEqual(ids);
    for (const [n, id] of ids.entries()) {
      expect((await vault.fetchKey(id))?.encryptedBlob).toStrictEqual(largeKey(n).encryptedBlob);
    }
    expect(await vault.getStatus(keyId(acknowledged))).toBe('ABSENT');
    remount('size=8m');
    expect(await vault.storeKey(largeKey(acknowledged))).toBe(true);
    expect(await outbox.add(minted)).toStrictEqual([]);
    expect(await vault.burnKey(keyId(0))).toBe(true);
    await close();
    const again = await open();
    expect(await again.vault.listKeyIds()).toHaveLength(acknowledged + 40);
    await again.close();
  });

  it('still selects, burns, purges, collects, forgets and opens when the disk is full to the last byte', async () => {
    remount('size=6m');
    const clock = new ManualClock();
    const openAt = () => openDeviceStorage({ backend: 'sqlite', path, key: RAW_KEY, now: clock.now });
    const { vault, inventory, close } = await openAt();
    await inventory.setPriority('bob', 'BESTIE');
    for (let n = 0; n < 5; n += 1) await inventory.storeKey(inventoryCoin(n, clock.in(20 * DAY)));
    for (const contactId of ['ann', 'cem', 'dee']) {
      await inventory.setPriority(contactId, 'BESTIE');
      for (let n = 0; n < 5; n += 1) await inventory.storeKey(inventoryCoin(n, clock.in(20 * DAY), { contactId }));
    }
    let stored = 0;
    // Half of them expire within an hour.
    const key = (n: number) => ({ ...largeKey(n), expiresAt: n % 2 === 0 ? clock.in(HOUR) : undefined });
    for (let isFull = false; !isFull; ) {
      await vault.storeKey(key(stored)).then(
        () => {
          stored += 1;
        },
        () => {
          isFull = true;
        },
      );
    }
    expect(() => writeFileSync(join(folder, 'filler'), Buffer.alloc(8 * 1024 * 1024))).toThrow('ENOSPC');
    await expect(vault.storeKey(largeKey(999))).rejects.toMatchObject({ name: 'StorageFullError' });

    for (let n = 0; n < 5; n += 1) expect((await inventory.selectCoin('bob', 'GOLD'))?.keyId).toBe(keyId(n));
    expect(await vault.burnKey(keyId(1))).toBe(true);
    expect((await inventory.setPriority('ann', 'STRANGER')).evicted).toHaveLength(5);
    expect(await inventory.forgetContact('cem')).toBe(5);
    await close();
    const again = await openAt();
    clock.advance(2 * HOUR);
    expect(await again.vault.purgeExpired()).toBe(Math.ceil(stored / 2));
    expect(await again.inventory.garbageCollect(0)).toBe(5);
    expect(await again.vault.getStatus(keyId(1))).toBe('BURNED');
    await again.cleanUp();
    // The freed space can be used again.
    expect(await again.vault.storeKey(largeKey(1000))).toBe(true);
    await again.close();
  });

  it('answers UnreachableError when the disk turned read-only, still reads, and works again when it is writable', async () => {
    const { vault, inventory, close } = await open();
    await vault.storeKey(vaultKey(1));
    await close();
    const held = await open();
    await held.vault.storeKey(vaultKey(2));
    await held.close();
    remount('ro');
    await expect(open()).rejects.toMatchObject({ name: 'UnreachableError', path });
    remount('rw');
    const again = await open();
    expect(await again.vault.listKeyIds()).toStrictEqual([keyId(1), keyId(2)]);
    await again.close();
    await expect(inventory.listContacts()).rejects.toMatchObject({ name: 'ClosedError' });
  });

  it('leaves no incomplete storage on a full disk: a named error, and the next opening works', async () => {
    writeFileSync(join(folder, 'filler'), Buffer.alloc(4 * 1024 * 1024 - 8192));
    // The error depends on the file that fails: for its shared memory, SQLite reports an I/O error.
    await expect(open()).rejects.toMatchObject({ name: expect.stringMatching(/^(StorageFull|Unreachable)Error$/) });
    rmSync(join(folder, 'filler'));
    const storage = await open();
    expect(await storage.vault.storeKey(vaultKey(1))).toBe(true);
    await storage.close();
  });

  it('leaves no incomplete choice on a full disk', async () => {
    expect(() => writeFileSync(join(folder, 'filler'), Buffer.alloc(5 * 1024 * 1024))).toThrow('ENOSPC');
    const auto = { backend: 'auto', path, key: RAW_KEY, url: 'redis://127.0.0.1:1', namespace: 'x' } as const;
    await expect(openDeviceStorage(auto)).rejects.toMatchObject({ name: 'StorageFullError' });
    expect(readdirSync(folder)).toStrictEqual(['filler']);
  });
});
