import { execFile } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type DeviceStorage, openDeviceStorage } from '../../device';
import { newCoin, newKey } from '../../testkit/device-contents';
import { compiled } from '../../testkit/root';
import { check, type Step } from '../device/history';

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

  const said = (step: Step['step'], id: string): Step[] => [
    { step, contact, id: step === 'select' ? '' : id, done: false },
    { step, contact, id, done: true },
  ];
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
    const begun: Step[] = [{ step: 'burn', contact, id, done: false }];
    expect(await breaches(said('put', id), begun)).toEqual([]);
  });
});
