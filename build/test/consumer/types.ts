import { CoinCategory, type CoinServiceError, connectCoinService, type FetchCoinsResponse } from 'aqm-database/client';
import {
  type CoinCategoryName,
  InvalidArgumentError,
  type InventoryCoin,
  openDeviceStorage,
  type SecureVault,
  topUp,
} from 'aqm-database/device';

export async function used(vault: SecureVault, error: CoinServiceError): Promise<InventoryCoin | null> {
  const service = connectCoinService('127.0.0.1:50051', { token: async () => 'jwt', timeoutMs: 5000 });
  const gold: CoinCategory = CoinCategory.COIN_CATEGORY_GOLD;
  const answer: FetchCoinsResponse = await service.fetchCoins({ targetUserId: 'id', coinCategory: gold, count: 1 });
  const sizes: number[] = answer.coins.map((coin) => coin.publicKey.length);
  const tier: CoinCategoryName = sizes.length > 0 ? 'GOLD' : 'BRONZE';
  const waitMs: number | undefined = error.retryAfterMs;
  const status: 'ACTIVE' | 'BURNED' | 'EXPIRED' | 'ABSENT' = await vault.getStatus(`${waitMs}`);
  const storage = await openDeviceStorage({ backend: 'sqlite', path: status, key: new Uint8Array(32) });
  const report = await topUp(storage, { client: service.client, token: () => 'jwt' }, []);
  if (report instanceof InvalidArgumentError) throw report;

  // @ts-expect-error a category that is not there
  await vault.countActive('PLATINUM');
  // @ts-expect-error a request without its field's type
  await service.fetchCoins({ targetUserId: 1 });
  return storage.inventory.selectCoin('bob', tier);
}
