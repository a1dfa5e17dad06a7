import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { CoinServiceClient } from '../../../gen/aqm/coin/v1/coin_service';
import { readConfig } from '../../../services/coin/config';
import { CoinLimits } from '../../../services/coin/limits/coin-limits';
import { MemoryLimits } from '../../../services/coin/limits/memory-limits';
import { startService, type TestService } from '../../../testkit/service';
import { COIN_CATEGORY_NAMES, perCategory } from '../../contract/coin-category';
import { type DeviceStorage, openDeviceStorage, reconcileCoins } from '../../index';

const COINS = 12_000;

let folder: string;
let service: TestService;
let storage: DeviceStorage;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-reconcile-limits-'));
  service = await startService({}, { limits: [new CoinLimits(new MemoryLimits(), readConfig({}).limits.rates)] });
  storage = await openDeviceStorage({ backend: 'sqlite', path: join(folder, 'device.db'), key: Buffer.alloc(32, 7) });
});
afterAll(async () => {
  await storage?.close();
  await service?.stop();
  rmSync(folder, { recursive: true });
});

/**
 * Returns the storage as if its vault held so many private halves: a reconcile reads nothing of a vault but their
 * ids.
 */
function withKeyIds(count: number): DeviceStorage {
  const perName = count / COIN_CATEGORY_NAMES.length;
  const ids = perCategory(() => Array.from({ length: perName }, () => randomUUID()).sort());
  const vault: DeviceStorage['vault'] = Object.create(storage.vault, {
    listKeyIds: { value: async (name: keyof typeof ids) => ids[name] },
  });
  return { ...storage, vault };
}

test('a device with 12,000 private halves reconciles ten times in a row without meeting a limit', async () => {
  const device = withKeyIds(COINS);
  const { token } = await service.user();
  const client = new CoinServiceClient(service.address, credentials.createInsecure());
  try {
    for (let time = 0; time < 10; time += 1) {
      const { results } = await reconcileCoins(device, { client, token: () => token });
      expect(results).toHaveLength(COINS);
    }
  } finally {
    client.close();
  }
});
