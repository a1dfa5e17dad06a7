import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { compiled } from '../../../testkit/root';
import { bytes, DAY, inventoryCoin, keyId, vaultKey } from '../../conformance/harness';
import { backupDeviceStorage, openDeviceStorage, restoreDeviceStorage } from '../../index';
import type { RestoreJob } from '../opening/restore-child';
import { chooseKillPoints, type KillPoint } from './kill-points';

const CHILD = compiled('device/test/opening/restore-child');
const KEY = bytes(32, 5);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-restore-walk-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Restores in a process. Returns null if the process was killed before it was done. */
async function restore(job: RestoreJob): Promise<string[] | null> {
  const child = spawn(process.execPath, [CHILD, JSON.stringify(job)], { stdio: ['ignore', 'pipe', 'pipe'] });
  const [output, log, [code, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit'),
  ]);
  if (signal === 'SIGKILL') return null;
  if (code !== 0) throw new Error(`Boundary ${job.killAt} ended with code ${code}: ${log}`);
  return JSON.parse(output);
}

it('killed at any step, a restore leaves the old storage or the restored one, and can be repeated', async () => {
  const old = { backend: 'sqlite', path: join(folder, 'old.db'), key: KEY } as const;
  const source = join(folder, 'backup.db');
  const storage = await openDeviceStorage(old);
  await storage.vault.storeKey(vaultKey(1));
  await storage.inventory.setPriority('bob', 'BESTIE');
  for (const n of [1, 2]) await storage.inventory.storeKey(inventoryCoin(n, new Date(Date.now() + DAY)));
  await backupDeviceStorage(storage, source);
  await storage.vault.burnKey(keyId(1));
  await storage.vault.storeKey(vaultKey(2));
  await storage.inventory.selectCoin('bob', 'GOLD');
  // Both files, as after a crash of the app.
  await storage.cleanUp();
  await storage.vault.storeKey(vaultKey(3));
  copyFileSync(old.path, join(folder, 'crashed.db'));
  copyFileSync(`${old.path}-wal`, join(folder, 'crashed.db-wal'));
  await storage.close();

  const jobAt = (killAt: KillPoint | null): RestoreJob => {
    const path = join(folder, `${killAt?.replaceAll(' ', '-') ?? 'lives'}.db`);
    for (const suffix of ['', '-wal']) copyFileSync(join(folder, `crashed.db${suffix}`), `${path}${suffix}`);
    return { path, source, key: [...KEY], killAt };
  };
  const points = chooseKillPoints((await restore(jobAt(null))) ?? []);
  expect(points.length).toBeGreaterThan(5);
  const seen = new Set<string>();
  for (const killAt of points) {
    const job = jobAt(killAt);
    expect(await restore(job)).toBeNull();
    const config = { backend: 'sqlite', path: job.path, key: KEY, create: false } as const;
    const found = await openDeviceStorage(config);
    const keys = await found.vault.listKeyIds();
    const coin = await found.inventory.selectCoin('bob', 'GOLD');
    await found.close();
    const isOld = keys.length === 2;
    expect([killAt, keys, coin?.keyId]).toStrictEqual([
      killAt,
      isOld ? [keyId(2), keyId(3)] : [keyId(1)],
      isOld ? keyId(2) : undefined,
    ]);
    seen.add(isOld ? 'old' : 'restored');
    await restoreDeviceStorage(config, source);
    const restored = await openDeviceStorage(config);
    expect(await restored.vault.listKeyIds()).toStrictEqual([keyId(1)]);
    expect(await restored.inventory.selectCoin('bob', 'GOLD')).toBeNull();
    await restored.close();
    expect(existsSync(`${job.path}-wal`)).toBe(false);
  }
  expect(seen).toStrictEqual(new Set(['old', 'restored']));
});
