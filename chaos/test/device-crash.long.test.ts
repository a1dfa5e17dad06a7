import { execFile } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type DeviceStorage, type InventoryCoin, openDeviceStorage } from '../../device';
import { newCoin, newKey } from '../../testkit/device-contents';
import { compiled } from '../../testkit/root';
import { check, DEVICES, type Step } from '../device/history';

const MAIN = compiled('chaos/device/main');

test('a few kills of each kind lose nothing and bring nothing back (npm run crash has the long form)', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [MAIN, '--rounds', '3']);
  expect(stdout).toContain('nothing acknowledged was lost, nothing used came back');
});

describe('the checker finds', () => {
  let folder: string;
  let storage: DeviceStorage;
  const contact = 'contact';

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'aqm-checker-'));
    storage = await openDeviceStorage({ backend: 'sqlite', path: join(folder, 'device.db'), key: randomBytes(32) });
    await storage.inventory.setPriority(contact, 'BESTIE');
  });
  afterEach(async () => {
    await storage.close();
    rmSync(folder, { recursive: true });
  });

  const said = (step: Step['step'], id: string, device = ''): Step[] => [
    { step, contact, device, ids: step === 'select' ? [] : [id], done: false },
    { step, contact, device, ids: [id], done: true },
  ];
  const begun = (step: Step['step'], device = ''): Step[] => [{ step, contact, device, ids: [], done: false }];
  const breaches = async (...steps: Step[][]) => (await check(storage, steps.flat())).breaches;

  test('a private half that was stored and is gone', async () => {
    expect(await breaches(said('put', randomUUID()))).toEqual([expect.stringContaining('is gone')]);
  });

  test('a private half that was burned and is there', async () => {
    const key = newKey();
    await storage.vault.storeKey(key);
    expect(await breaches(said('put', key.keyId), said('burn', key.keyId))).toEqual([
      expect.stringContaining('can be fetched'),
    ]);
  });

  test('a burned id that can be stored again', async () => {
    const id = randomUUID();
    expect(await breaches(said('put', id), said('burn', id))).toEqual([expect.stringContaining('stored again')]);
  });

  test('a coin that was stored and is gone', async () => {
    expect(await breaches(said('store', randomUUID()))).toEqual([expect.stringContaining('is gone')]);
  });

  test('a coin that was selected and comes back', async () => {
    const coin = newCoin(contact, 'GOLD');
    await storage.inventory.storeKey(coin);
    const found = await breaches(said('store', coin.keyId), said('select', coin.keyId));
    expect(found).toEqual([expect.stringContaining('came back')]);
  });

  test('a selected id that can be stored again', async () => {
    const id = randomUUID();
    expect(await breaches(said('store', id), said('select', id))).toEqual([expect.stringContaining('stored again')]);
  });

  test('no breach where a step was begun and may have happened', async () => {
    const id = randomUUID();
    await storage.vault.storeKey({ ...newKey(), keyId: id });
    await storage.vault.burnKey(id);
    const burning: Step[] = [{ step: 'burn', contact, ids: [id], done: false }];
    expect(await breaches(said('put', id), burning)).toEqual([]);
  });

  describe('of a step for several devices', () => {
    const [unnamed, phone, laptop] = DEVICES;
    const stored = (ids: readonly string[]) =>
      [unnamed, phone, laptop].flatMap((device, n) => said('store', ids[n] ?? '', device));

    test('that it took coins of some devices only', async () => {
      const coins = [unnamed, phone, laptop].map((deviceId) => ({ ...newCoin(contact, 'GOLD'), deviceId }));
      const ids = coins.map(({ keyId }) => keyId);
      await storage.inventory.storeKey(coins[0] as InventoryCoin);
      expect(await breaches(stored(ids), begun('selectAll'))).toEqual([expect.stringContaining('is gone')]);
      expect(await breaches(stored(ids), begun('selectAll'))).toEqual([]);
    });

    test('that it forgot coins of another device', async () => {
      const coins = [unnamed, phone].map((deviceId) => ({ ...newCoin(contact, 'GOLD'), deviceId }));
      for (const coin of coins) await storage.inventory.storeKey(coin);
      const gone = said('store', randomUUID(), laptop);
      const there = coins.flatMap(({ keyId, deviceId }) => said('store', keyId, deviceId));
      expect(await breaches(there, gone, begun('forget', phone))).toEqual([expect.stringContaining('is gone')]);
    });

    test('that a coin is of another device than the one it was stored for', async () => {
      const coin = { ...newCoin(contact, 'GOLD'), deviceId: phone };
      await storage.inventory.storeKey(coin);
      const found = await breaches(said('store', coin.keyId, laptop));
      expect(found).toEqual([expect.stringContaining('changed its device')]);
    });
  });
});
