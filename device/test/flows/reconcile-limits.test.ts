import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { readConfig } from '../../../services/coin/config';
import { CoinLimits } from '../../../services/coin/limits/coin-limits';
import { MemoryLimits } from '../../../services/coin/limits/memory-limits';
import { startService, type TestService } from '../../../testkit/service';
import { COIN_CATEGORY_NAMES } from '../../contract/coin-category';
import { CoinServiceClient, type DeviceStorage, openDeviceStorage, reconcileCoins } from '../../index';

const COINS = 12_000;
const DAY_MS = 86_400_000;

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

test('a device with 12,000 private halves reconciles ten times in a row without meeting a limit', async () => {
  const half = {
    encryptedBlob: Buffer.alloc(64, 1),
    encryptionIv: Buffer.alloc(12, 2),
    authTag: Buffer.alloc(16, 3),
    expiresAt: new Date(Date.now() + 20 * DAY_MS),
  };
  for (let n = 0; n < COINS; n += 1) {
    const coinCategory = COIN_CATEGORY_NAMES[n % COIN_CATEGORY_NAMES.length] ?? 'BRONZE';
    await storage.vault.storeKey({ ...half, keyId: randomUUID(), coinCategory });
  }
  const { token } = await service.user();
  const client = new CoinServiceClient(service.address, credentials.createInsecure());
  try {
    for (let time = 0; time < 10; time += 1) {
      const { results } = await reconcileCoins(storage, { client, token: () => token });
      expect(results).toHaveLength(COINS);
    }
  } finally {
    client.close();
  }
});
