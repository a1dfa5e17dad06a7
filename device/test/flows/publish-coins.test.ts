import { status } from '@grpc/grpc-js';
import type { UploadCoinsRequest } from '../../../gen/aqm/coin/v1/coin_service';
import {
  DAY,
  type Fixture,
  HOUR,
  keyId,
  MINUTE,
  mintedCoin,
  passTime,
  vaultKey,
  withFixture,
} from '../../conformance/harness';
import { publishCoins, reconcileCoins } from '../../index';
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

  it('publishes a private half that was stored in the vault before', () =>
    withService(async ({ storage }, service) => {
      for (const n of [1, 2]) await storage.vault.storeKey(vaultKey(n));
      expect(outcomes(await publishCoins(storage, service.access, minted(1, 3)))).toStrictEqual([
        [1, 'INSERTED'],
        [2, 'INSERTED'],
        [3, 'INSERTED'],
      ]);
      const again = await publishCoins(storage, service.access, minted(1, 3));
      expect(outcomes(again).map(([, outcome]) => outcome)).toStrictEqual(Array(3).fill('ALREADY_PRESENT'));
      expect(uploads(service)).toHaveLength(1);
    }));

  it('keeps a private half until the given time, and publishes its coin until 7 days before', () =>
    withService(async ({ storage, clock }, service) => {
      const expiresAt = clock.in(20 * DAY);
      await publishCoins(storage, service.access, [{ ...mintedCoin(1), expiresAt }]);
      expect((await storage.vault.fetchKey(keyId(1)))?.expiresAt).toStrictEqual(expiresAt);
      expect(service.stock[0]?.expireTime).toStrictEqual(clock.in(13 * DAY));
      for (const bad of [clock.in(-1), clock.in(31 * DAY), new Date(Number.NaN), 5 as unknown as Date]) {
        const refused = publishCoins(storage, service.access, [{ ...mintedCoin(2), expiresAt: bad }]);
        await expect(refused).rejects.toMatchObject({ name: 'InvalidArgumentError', field: 'expiresAt' });
      }
      expect(await storage.vault.countActive('GOLD')).toBe(1);
      // The vault holds the private half until another time.
      const other = await publishCoins(storage, service.access, [{ ...mintedCoin(1), expiresAt: clock.in(DAY) }]);
      expect(outcomes(other)).toStrictEqual([[1, 'CONFLICT']]);
    }));

  it('never sends a coin again that was sent under an older epoch, also if it is minted again', () =>
    withService(async ({ storage, clock, open }, service) => {
      await publishCoins(storage, service.access, minted(1, 1));
      service.failNext('uploadCoins', 'after');
      await expect(publishCoins(storage, service.access, minted(2, 1))).rejects.toThrow();
      service.epoch = OTHER_EPOCH;
      service.stock.length = 0;
      service.serverTime = clock.now();
      await reconcileCoins(storage, service.access);
      await storage.close();
      const reopened = await open();
      for (let time = 0; time < 2; time += 1) {
        expect(outcomes(await publishCoins(reopened, service.access, minted(1, 2)))).toStrictEqual([
          [1, 'EPOCH_CHANGED'],
          [2, 'EPOCH_CHANGED'],
        ]);
      }
      expect(service.stock).toStrictEqual([]);
    }));

  it('reports the same outcome when a coin that was refused is published again, and does not send it', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(1, 1, 'GOLD', clock.in(20 * DAY));
      service.spent.add(keyId(2));
      const coins = [{ ...mintedCoin(1), publicKey: mintedCoin(9).publicKey }, mintedCoin(2)];
      for (let time = 0; time < 3; time += 1) {
        expect(outcomes(await publishCoins(storage, service.access, coins))).toStrictEqual([
          [1, 'CONFLICT'],
          [2, 'SPENT'],
        ]);
      }
      expect(uploads(service)).toHaveLength(1);
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

/** Returns the number of coins that were sent since the last call. */
function sentCounter(service: ScriptedCoinService): () => number {
  let seen = 0;
  return () => {
    const sent = uploads(service).flatMap(({ coins }) => coins).length;
    const since = sent - seen;
    seen = sent;
    return since;
  };
}

function tally(report: { results: { outcome: string }[] }): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { outcome } of report.results) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return counts;
}

backend.describe('publishing more coins than the stock takes', () => {
  it('sends none of them again until there is room, and then as many as there is room for', () =>
    withService(async ({ storage }, service) => {
      const sent = sentCounter(service);
      service.stockLimit = 50;
      const first = await publishCoins(storage, service.access, minted(0, 500));
      expect([tally(first), sent()]).toStrictEqual([{ INSERTED: 50, OVER_STOCK_LIMIT: 450 }, 100]);
      for (let time = 0; time < 12; time += 1) {
        expect(tally(await publishCoins(storage, service.access, []))).toStrictEqual({ OVER_STOCK_LIMIT: 450 });
      }
      expect(sent()).toBe(0);
      service.stock.splice(0, 20);
      const refilled = await publishCoins(storage, service.access, minted(500, 1));
      // One more than there is room for, in case the limit was raised.
      expect([tally(refilled), sent()]).toStrictEqual([{ INSERTED: 20, OVER_STOCK_LIMIT: 431 }, 21]);
      // In minting order.
      expect(service.stock.slice(-20).map((coin) => coin.keyId)).toStrictEqual(
        Array.from({ length: 20 }, (_, n) => keyId(50 + n)),
      );
      expect(new Set(refilled.results.map((result) => result.keyId)).size).toBe(451);
    }));

  it('lets new coins of other categories pass', () =>
    withService(async ({ storage }, service) => {
      service.stockLimit = 10;
      await publishCoins(storage, service.access, minted(0, 130));
      const sent = sentCounter(service);
      sent();
      const bronze = [500, 501, 502].map((n) => mintedCoin(n, 'BRONZE'));
      expect(tally(await publishCoins(storage, service.access, bronze))).toStrictEqual({
        INSERTED: 3,
        OVER_STOCK_LIMIT: 120,
      });
      expect(sent()).toBe(3);
    }));

  it('costs a new process one coin, and a few more than there is room for', () =>
    withService(async ({ storage, open }, service) => {
      const sent = sentCounter(service);
      service.stockLimit = 50;
      await publishCoins(storage, service.access, minted(0, 500));
      await storage.close();
      sent();
      for (let time = 0; time < 5; time += 1) {
        const process = await open();
        expect(tally(await publishCoins(process, service.access, []))).toStrictEqual({ OVER_STOCK_LIMIT: 450 });
        await process.close();
      }
      expect(sent()).toBe(5);
      service.stock.splice(0, 20);
      const refilled = await publishCoins(await open(), service.access, []);
      // 1, 2, 4, 8, and 5 of 16.
      expect([tally(refilled), sent()]).toStrictEqual([{ INSERTED: 20, OVER_STOCK_LIMIT: 430 }, 31]);
    }));

  it('notices a raised limit when there is room, and otherwise after an hour', () =>
    withService(async ({ storage, clock }, service) => {
      service.serverTime = clock.now();
      service.stockLimit = 10;
      await publishCoins(storage, service.access, minted(0, 40));
      service.stockLimit = 20;
      service.stock.splice(0, 1);
      expect(tally(await publishCoins(storage, service.access, []))).toMatchObject({ INSERTED: 11 });
      expect(service.stock).toHaveLength(20);
      service.stockLimit = 30;
      expect(tally(await publishCoins(storage, service.access, []))).toStrictEqual({ OVER_STOCK_LIMIT: 19 });
      service.serverTime = clock.in(HOUR + 1);
      expect(tally(await publishCoins(storage, service.access, []))).toStrictEqual({
        INSERTED: 10,
        OVER_STOCK_LIMIT: 9,
      });
    }));

  it('keeps coins that were never sent publishable after the service was restored', () =>
    withService(async ({ storage }, service) => {
      service.stockLimit = 50;
      await publishCoins(storage, service.access, minted(0, 200));
      service.epoch = OTHER_EPOCH;
      service.stock.length = 0;
      // The first 100 were sent: 50 acknowledged and 50 refused.
      expect(tally(await publishCoins(storage, service.access, []))).toStrictEqual({
        EPOCH_CHANGED: 50,
        INSERTED: 50,
        OVER_STOCK_LIMIT: 50,
      });
    }));
});
