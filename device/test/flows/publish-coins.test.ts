import { status } from '@grpc/grpc-js';
import type { UploadCoinsRequest } from '../../../gen/aqm/coin/v1/coin_service';
import {
  DAY,
  type Fixture,
  keyId,
  MINUTE,
  mintedCoin,
  passTime,
  vaultKey,
  withFixture,
} from '../../conformance/harness';
import { publishCoins } from '../../index';
import { eachBackend } from '../each-backend';
import { ScriptedCoinService } from './scripted-coin-service';

const backend = eachBackend();
const OTHER_EPOCH = '22222222-2222-4222-8222-222222222222';

function withService(test: (fixture: Fixture, service: ScriptedCoinService) => Promise<void>): Promise<void> {
  return withFixture(backend.harness, async (fixture) => {
    const service = await ScriptedCoinService.start();
    try {
      await test(fixture, service);
    } finally {
      service.stop();
    }
  });
}

const outcomes = (report: { results: { keyId: string; outcome: string }[] }) =>
  report.results.map(({ keyId, outcome }) => [Number.parseInt(keyId.slice(-12), 16), outcome]);
const minted = (from: number, count: number) => Array.from({ length: count }, (_, n) => mintedCoin(from + n));
const uploads = (service: ScriptedCoinService) => service.requests<UploadCoinsRequest>('uploadCoins');

backend.describe('publishing minted coins', () => {
  it('uploads in minting order, with the vault’s expiry minus 7 days, the epoch and the token', () =>
    withService(async ({ storage, clock }, service) => {
      const report = await publishCoins(storage, service.access, [
        mintedCoin(3),
        mintedCoin(1, 'BRONZE'),
        mintedCoin(2),
      ]);
      expect(outcomes(report)).toStrictEqual([
        [3, 'INSERTED'],
        [1, 'INSERTED'],
        [2, 'INSERTED'],
      ]);
      expect(report.available).toStrictEqual({ GOLD: 2, SILVER: 0, BRONZE: 1 });
      expect(report.databaseEpoch).toBe(service.epoch);
      const [upload] = uploads(service);
      expect(upload?.databaseEpoch).toBe(service.epoch);
      expect(upload?.coins.map((coin) => coin.keyId)).toStrictEqual([3, 1, 2].map(keyId));
      expect(upload?.coins[0]?.expireTime).toStrictEqual(clock.in(23 * DAY));
      expect(new Uint8Array(upload?.coins[0]?.publicKey ?? [])).toStrictEqual(mintedCoin(3).publicKey);
      expect(service.calls.every(({ token }) => token === 'Bearer a.b.c')).toBe(true);
      expect((await storage.vault.fetchKey(keyId(3)))?.encryptedBlob).toStrictEqual(vaultKey(3).encryptedBlob);
    }));

  it('sends an expiry that the server accepts when the device’s clock is ahead by more than the clock skew', () =>
    withService(async ({ storage, clock }, service) => {
      for (const [n, ahead, expected] of [
        [1, 5 * MINUTE, clock.in(23 * DAY)],
        [2, DAY, clock.in(22 * DAY)],
      ] as const) {
        service.serverTime = clock.in(-ahead);
        await publishCoins(storage, service.access, minted(n, 1));
        expect(uploads(service).at(-1)?.coins[0]?.expireTime).toStrictEqual(expected);
      }
    }));

  it('has every private half on disk before a public half leaves, in batches of 100', () =>
    withService(async ({ storage, open }, service) => {
      const other = await open();
      const held: number[] = [];
      service.during.uploadCoins = async () => {
        held.push(await other.vault.countActive('GOLD'));
      };
      const report = await publishCoins(storage, service.access, minted(0, 230));
      expect(report.results).toHaveLength(230);
      expect(report.available.GOLD).toBe(230);
      expect(uploads(service).map(({ coins }) => coins.length)).toStrictEqual([100, 100, 30]);
      expect(held).toStrictEqual([230, 230, 230]);
    }));

  it.each(['before', 'after'] as const)('resumes an upload whose call failed %s it took effect', (when) =>
    withService(async ({ storage, open }, service) => {
      service.failNext('uploadCoins', when);
      await expect(publishCoins(storage, service.access, minted(1, 2))).rejects.toMatchObject({
        code: status.UNAVAILABLE,
      });
      await storage.close();
      const again = await publishCoins(await open(), service.access, []);
      const outcome = when === 'before' ? 'INSERTED' : 'ALREADY_PRESENT';
      expect(outcomes(again)).toStrictEqual([
        [1, outcome],
        [2, outcome],
      ]);
      expect(service.stock).toHaveLength(2);
    }),
  );

  it('keeps the coins when the service cannot be reached at all', () =>
    withService(async ({ storage }, service) => {
      service.failNext('getInventoryCount', 'before', { code: status.UNAUTHENTICATED, reason: 'TOKEN_EXPIRED' });
      const failed = publishCoins(storage, service.access, minted(1, 1));
      await expect(failed).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
      expect(await storage.vault.countActive('GOLD')).toBe(1);
      expect(outcomes(await publishCoins(storage, service.access, []))).toStrictEqual([[1, 'INSERTED']]);
      expect(outcomes(await publishCoins(storage, service.access, []))).toStrictEqual([]);
    }));

  it('never uploads a coin again that was sent under an older epoch, and sends the others under the new one', () =>
    withService(async ({ storage, open }, service) => {
      service.failNext('uploadCoins', 'after');
      await expect(publishCoins(storage, service.access, minted(1, 2))).rejects.toThrow();
      // A restore: the stock and the memory of it are gone.
      service.epoch = OTHER_EPOCH;
      service.stock.length = 0;
      await storage.close();
      const reopened = await open();
      const report = await publishCoins(reopened, service.access, minted(3, 1));
      expect(outcomes(report)).toStrictEqual([
        [1, 'EPOCH_CHANGED'],
        [2, 'EPOCH_CHANGED'],
        [3, 'INSERTED'],
      ]);
      expect(report.databaseEpoch).toBe(OTHER_EPOCH);
      expect(service.stock.map((coin) => coin.keyId)).toStrictEqual([keyId(3)]);
      expect(await reopened.vault.countActive('GOLD')).toBe(3);
      expect(outcomes(await publishCoins(reopened, service.access, []))).toStrictEqual([]);
    }));

  it('survives a restore between learning the epoch and the upload', () =>
    withService(async ({ storage }, service) => {
      service.during.getInventoryCount = () => {
        delete service.during.getInventoryCount;
        service.during.uploadCoins = undefined;
        service.epoch = OTHER_EPOCH;
      };
      // The first response has the old epoch, because it was made before the restore.
      const report = await publishCoins(storage, service.access, minted(1, 101));
      const changed = report.results.filter(({ outcome }) => outcome === 'EPOCH_CHANGED');
      const inserted = report.results.filter(({ outcome }) => outcome === 'INSERTED');
      // The first batch was sent under the old epoch, the rest was not.
      expect([changed.length, inserted.length]).toStrictEqual([100, 1]);
      expect(report.databaseEpoch).toBe(OTHER_EPOCH);
      const retried = uploads(service).filter(({ databaseEpoch }) => databaseEpoch === OTHER_EPOCH);
      expect(retried.flatMap(({ coins }) => coins.map((coin) => coin.keyId))).toStrictEqual([keyId(101)]);
    }));

  it('does not upload a coin whose private half was burned, or has expired, meanwhile', () =>
    withService(async ({ storage, clock }, service) => {
      service.failNext('getInventoryCount', 'before');
      await expect(publishCoins(storage, service.access, minted(1, 2))).rejects.toThrow();
      await storage.vault.burnKey(keyId(1));
      expect(outcomes(await publishCoins(storage, service.access, []))).toStrictEqual([
        [1, 'SPENT'],
        [2, 'INSERTED'],
      ]);
      service.failNext('getInventoryCount', 'before');
      await expect(publishCoins(storage, service.access, minted(3, 1))).rejects.toThrow();
      await passTime({ storage, clock }, 30 * DAY);
      expect(outcomes(await publishCoins(storage, service.access, []))).toStrictEqual([[3, 'EXPIRED']]);
      expect(service.stock.map((coin) => coin.keyId)).toStrictEqual([keyId(2)]);
    }));

  it('does not upload as new what the vault refuses', () =>
    withService(async ({ storage }, service) => {
      await publishCoins(storage, service.access, minted(1, 1));
      await storage.vault.storeKey(vaultKey(2));
      await storage.vault.burnKey(keyId(2));
      await storage.vault.storeKey({ ...vaultKey(9), keyId: keyId(3) });
      const report = await publishCoins(storage, service.access, minted(1, 4));
      expect(outcomes(report)).toStrictEqual([
        [1, 'ALREADY_PRESENT'],
        [2, 'SPENT'],
        [3, 'CONFLICT'],
        [4, 'INSERTED'],
      ]);
      expect(service.stock.map((coin) => coin.keyId)).toStrictEqual([keyId(1), keyId(4)]);
    }));

  it('sends a coin once when it is published again while it waits', () =>
    withService(async ({ storage }, service) => {
      service.failNext('uploadCoins', 'before');
      await expect(publishCoins(storage, service.access, minted(1, 2))).rejects.toThrow();
      const report = await publishCoins(storage, service.access, [...minted(1, 2), ...minted(1, 2)]);
      expect(outcomes(report)).toStrictEqual([
        [1, 'INSERTED'],
        [2, 'INSERTED'],
      ]);
    }));

  it('keeps what is over the stock limit for later, and forgets every other answer', () =>
    withService(async ({ storage }, service) => {
      service.stockLimit = 1;
      service.spent.add(keyId(1));
      const report = await publishCoins(storage, service.access, minted(1, 3));
      expect(outcomes(report)).toStrictEqual([
        [1, 'SPENT'],
        [2, 'INSERTED'],
        [3, 'OVER_STOCK_LIMIT'],
      ]);
      service.stock.length = 0;
      expect(outcomes(await publishCoins(storage, service.access, []))).toStrictEqual([[3, 'INSERTED']]);
    }));

  it('refuses a malformed coin whole: nothing is stored or sent', () =>
    withService(async ({ storage }, service) => {
      const bad: [string, object][] = [
        ['publicKey', { publicKey: new Uint8Array(3) }],
        ['signature', { signature: undefined }],
        ['coinCategory', { coinCategory: 'TIN' }],
        ['encryptedBlob', { encryptedBlob: new Uint8Array(0) }],
        ['keyId', { keyId: '' }],
      ];
      for (const [field, changes] of bad) {
        const coins = [mintedCoin(1), { ...mintedCoin(2), ...changes }];
        await expect(publishCoins(storage, service.access, coins)).rejects.toMatchObject({
          name: 'InvalidArgumentError',
          field,
        });
      }
      expect(await storage.vault.listKeyIds()).toStrictEqual([]);
      expect(service.calls).toStrictEqual([]);
    }));
});
