import { status } from '@grpc/grpc-js';
import type {
  GetInventoryCountRequest,
  ReconcileCoinsRequest,
  UploadCoinsRequest,
} from '../../../gen/aqm/coin/v1/coin_service';
import { DAY, type Fixture, keyId, mintedCoin, withFixture } from '../../conformance/harness';
import { fetchForDevices, publishCoins, reconcileCoins, topUp } from '../../index';
import { eachBackend } from '../each-backend';
import { ScriptedCoinService } from './scripted-coin-service';

const backend = eachBackend();
const userId = keyId(0xb0b);
const PHONE = keyId(0xa);
const REMOVED = { name: 'CoinServiceError', code: status.FAILED_PRECONDITION, reason: 'DEVICE_REMOVED' };

/** Runs a test with a storage of the user's phone. */
function withService(test: (fixture: Fixture, service: ScriptedCoinService) => Promise<void>): Promise<void> {
  return withFixture(backend.harness, async (fixture) => {
    const service = await ScriptedCoinService.start();
    service.devices = ['', PHONE];
    service.serverTime = fixture.clock.now();
    try {
      await fixture.storage.owner.bind({ userId, deviceId: PHONE });
      await test(fixture, service);
    } finally {
      service.stop();
    }
  });
}

/** Returns the device ids that the requests about the own stock named. */
const named = (service: ScriptedCoinService) =>
  (['uploadCoins', 'getInventoryCount', 'reconcileCoins'] as const).map((method) =>
    service
      .requests<UploadCoinsRequest | GetInventoryCountRequest | ReconcileCoinsRequest>(method)
      .map(({ deviceId }) => deviceId),
  );

backend.describe('the flows of one of several devices of a user', () => {
  it('publish, count and reconcile for that device', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(50, 9, 'GOLD', clock.in(20 * DAY));
      const { available } = await publishCoins(storage, service.access, [mintedCoin(1), mintedCoin(2, 'SILVER')]);
      expect(available).toStrictEqual({ GOLD: 1, SILVER: 1, BRONZE: 0 });
      expect(service.stock.filter(({ deviceId }) => deviceId === PHONE)).toHaveLength(2);
      // The coins of the unnamed device are none of this one's: nothing would be retired, so nothing is refused.
      await reconcileCoins(storage, service.access);
      const [uploads, counts, reconciles] = named(service);
      expect(uploads).toStrictEqual([PHONE]);
      expect(new Set(counts)).toStrictEqual(new Set([PHONE]));
      expect(reconciles).toStrictEqual(Array.from({ length: 5 }, () => PHONE));
    }));

  it('name no device for a storage without one', () =>
    withFixture(backend.harness, async ({ storage, clock }) => {
      const service = await ScriptedCoinService.start();
      try {
        service.serverTime = clock.now();
        await publishCoins(storage, service.access, [mintedCoin(1)]);
        await reconcileCoins(storage, service.access);
        expect(new Set(named(service).flat())).toStrictEqual(new Set(['']));
      } finally {
        service.stop();
      }
    }));

  it('stop for good when the device was removed: nothing more is stored, sent or asked', () =>
    withService(async ({ storage, open, clock }, service) => {
      await publishCoins(storage, service.access, [mintedCoin(1)]);
      service.remove(PHONE);
      await expect(publishCoins(storage, service.retrying(), [mintedCoin(2)])).rejects.toMatchObject(REMOVED);
      expect(service.requests('uploadCoins')).toHaveLength(2);
      const made = service.calls.length;
      await expect(publishCoins(storage, service.access, [mintedCoin(3)])).rejects.toMatchObject(REMOVED);
      await expect(reconcileCoins(storage, service.access)).rejects.toMatchObject(REMOVED);
      await storage.close();
      const reopened = await open();
      await expect(publishCoins(reopened, service.access, [mintedCoin(3)])).rejects.toMatchObject({
        ...REMOVED,
        message: expect.stringContaining('new device'),
      });
      await expect(reconcileCoins(reopened, service.access)).rejects.toMatchObject(REMOVED);
      expect(service.calls).toHaveLength(made);
      // Messages that are on their way can still be opened.
      expect(await reopened.vault.listKeyIds()).toStrictEqual([keyId(1), keyId(2)]);
      // Only the publishing side has ended.
      service.add(50, 1, 'GOLD', clock.in(DAY));
      const contact = { contactId: 'zoe', userId: keyId(1000) };
      expect((await topUp(reopened, service.access, [contact])).contacts[0]?.error).toBeUndefined();
      const wish = { ...contact, coinCategory: 'GOLD' } as const;
      expect(await fetchForDevices(reopened, service.access, wish)).toMatchObject([{ coin: { keyId: keyId(50) } }]);
    }));

  it('keep the coins of a device that is one too many, and send them once there is room', () =>
    withService(async ({ storage }, service) => {
      const failure = { code: status.RESOURCE_EXHAUSTED, reason: 'TOO_MANY_DEVICES' };
      service.failNext('uploadCoins', 'before', failure);
      await expect(publishCoins(storage, service.retrying(), [mintedCoin(1)])).rejects.toMatchObject(failure);
      expect(service.requests('uploadCoins')).toHaveLength(1);
      const { results } = await publishCoins(storage, service.access, []);
      expect(results).toStrictEqual([{ keyId: keyId(1), coinCategory: 'GOLD', outcome: 'INSERTED' }]);
    }));

  it('reject with DEVICE_MISMATCH, and repeat nothing, if the service knows the token as that of another device', () =>
    withService(async ({ storage }, service) => {
      const failure = { code: status.PERMISSION_DENIED, reason: 'DEVICE_MISMATCH' };
      service.failNext('getInventoryCount', 'before', failure);
      await expect(publishCoins(storage, service.retrying(), [mintedCoin(1)])).rejects.toMatchObject(failure);
      expect(service.calls).toHaveLength(1);
    }));
});
