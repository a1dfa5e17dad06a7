import { sql } from 'kysely';
import { CoinStateResult_State as State } from '../../../gen/aqm/coin/v1/coin_service';
import { ids } from '../../../testkit/coins';
import { startService, type TestService } from '../../../testkit/service';
import {
  type DeviceStorage,
  type MintedCoin,
  publishCoins,
  type ReconcileReport,
  RetireManyError,
  reconcileCoins,
} from '../../index';
import { backUp } from '../device-backup';
import { eachBackend } from '../each-backend';
import { stepped } from '../steps';
import { keptHalves } from './kept-halves';
import { Reconciled } from './reconcile-kit';

const backend = eachBackend();

let service: TestService;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service?.stop());

const withDevice = (test: (device: Reconciled) => Promise<void>) => Reconciled.run(service, backend.harness, test);

/** Returns the ids of a report, grouped by outcome. */
function outcomes({ results }: ReconcileReport): Record<string, string[]> {
  const by: Record<string, string[]> = {};
  for (const { keyId, outcome } of results) by[outcome] = [...(by[outcome] ?? []), keyId].sort();
  return by;
}

const published = ({ published: { results } }: ReconcileReport) => results.map(({ outcome }) => outcome);

/** Starts a new epoch of the service's database. The test itself removes what a restore would lose. */
async function restoreService({ service }: Reconciled): Promise<void> {
  await sql`UPDATE database_life SET epoch = gen_random_uuid()`.execute(service.database.db);
}

backend.describe('reconciling the vault with the real coin service', () => {
  it('changes nothing when both have the same', () =>
    withDevice(async (device) => {
      const storage = await device.open();
      const coins = device.mint(6);
      await publishCoins(storage, device.access, coins);
      await device.letTimePass();
      for (let round = 0; round < 2; round += 1) {
        const report = await reconcileCoins(storage, device.access);
        expect(outcomes(report)).toStrictEqual({ IN_STOCK: ids(coins) });
        expect(report.retired).toStrictEqual({ GOLD: 0, SILVER: 0, BRONZE: 0 });
        expect(published(report)).toStrictEqual([]);
      }
      expect(await device.fetchAll()).toStrictEqual(ids(coins));
    }));

  it('after the vault was restored from a backup: coins it lost are never fetched, coins it got back never published', () =>
    withDevice(async (device) => {
      const early = device.mint(6);
      let storage = await device.open();
      await publishCoins(storage, device.access, early);
      await device.close();
      const restore = await backUp(device.config);
      storage = await device.open();
      // After the backup: all early coins are fetched, one is burned, and more are minted.
      expect(await device.fetchAll()).toStrictEqual(ids(early));
      await storage.vault.burnKey(early[0]?.keyId ?? '');
      const late = device.mint(6);
      await publishCoins(storage, device.access, late);
      await device.close();
      await restore();
      await device.letTimePass();

      storage = await device.open();
      const report = await reconcileCoins(storage, device.access);
      expect(report.retired).toStrictEqual({ GOLD: 2, SILVER: 2, BRONZE: 2 });
      expect(outcomes(report)).toStrictEqual({ SPENT: ids(early) });
      expect(await keptHalves(device.config, () => new Date())).toBe(0);
      expect(published(report)).toStrictEqual([]);
      expect(await device.fetchAll()).toStrictEqual([]);
      expect(await device.statesOf(ids(late))).toStrictEqual(new Map([[State.STATE_SPENT, ids(late)]]));
      // The messages to the early coins can still be opened.
      expect(await storage.vault.listKeyIds()).toStrictEqual(ids(early));
      const again = await reconcileCoins(storage, device.access);
      expect([outcomes(again), published(again)]).toStrictEqual([{ SPENT: ids(early) }, []]);
    }));

  it('after the device was wiped: old coins cannot be fetched, new ones can', () =>
    withDevice(async (device) => {
      await device.open();
      await device.close();
      const wipe = await backUp(device.config);
      let storage = await device.open();
      await publishCoins(storage, device.access, device.mint(6));
      await device.close();
      await wipe();
      await device.letTimePass();
      storage = await device.open();
      const fresh = device.mint(3);
      await publishCoins(storage, device.access, fresh);
      const report = await reconcileCoins(storage, device.access);
      expect(report.retired).toStrictEqual({ GOLD: 2, SILVER: 2, BRONZE: 2 });
      expect(outcomes(report)).toStrictEqual({ IN_STOCK: ids(fresh) });
      expect(await device.fetchAll()).toStrictEqual(ids(fresh));
    }));

  it('after the service was restored: coins of the old epoch are never uploaded again, new ones are', () =>
    withDevice(async (device) => {
      const storage = await device.open();
      const old = device.mint(6);
      await publishCoins(storage, device.access, old);
      await device.lose();
      await restoreService(device);
      const report = await reconcileCoins(storage, device.access);
      expect(outcomes(report)).toStrictEqual({ NOT_PUBLISHABLE: ids(old) });
      const fresh = device.mint(3);
      await publishCoins(storage, device.access, [...old, ...fresh]);
      const again = await reconcileCoins(storage, device.access);
      expect(outcomes(again)).toStrictEqual({ NOT_PUBLISHABLE: ids(old), IN_STOCK: ids(fresh) });
      const { rows } = await sql<{
        id: string;
      }>`SELECT key_id AS id FROM coin WHERE user_id = ${device.bob.id}::uuid ORDER BY key_id`.execute(
        device.service.database.db,
      );
      expect(rows.map(({ id }) => id)).toStrictEqual(ids(fresh));
      expect(await storage.vault.listKeyIds()).toStrictEqual(ids([...old, ...fresh]));
    }));

  it('after the service lost coins within its epoch: those are published again, unless they were burned', () =>
    withDevice(async (device) => {
      const storage = await device.open();
      const coins = device.mint(7);
      await publishCoins(storage, device.access, coins);
      const [burned, ...lost] = ids(coins.slice(0, 4)) as [string, string, string, string];
      await device.lose([burned, ...lost]);
      await storage.vault.burnKey(burned);
      await device.letTimePass();
      const report = await reconcileCoins(storage, device.access);
      expect(outcomes(report)).toStrictEqual({ TO_PUBLISH: lost, IN_STOCK: ids(coins.slice(4)) });
      expect(published(report)).toStrictEqual(['INSERTED', 'INSERTED', 'INSERTED']);
      expect(report.retired).toStrictEqual({ GOLD: 0, SILVER: 0, BRONZE: 0 });
      expect(await device.fetchAll()).toStrictEqual(ids(coins.slice(1)));
    }));

  it('publishes what was never sent, and cannot publish what it has no public half of', () =>
    withDevice(async (device) => {
      const storage = await device.open();
      const [waiting, bare] = device.mint(2);
      if (waiting === undefined || bare === undefined) return;
      await storage.outbox.add([waiting]);
      await storage.vault.storeKey(bare);
      const report = await reconcileCoins(storage, device.access);
      expect(outcomes(report)).toStrictEqual({ TO_PUBLISH: [waiting.keyId], NOT_PUBLISHABLE: [bare.keyId] });
      expect(published(report)).toStrictEqual(['INSERTED']);
    }));

  it('compares vaults of more ids than one call takes', () =>
    withDevice(async (device) => {
      const storage = await device.open();
      const coins = device.mint(1).flatMap((coin) =>
        Array.from({ length: 1003 }, (_, n) => ({
          ...coin,
          keyId: coin.keyId.replace(/.{4}$/, n.toString(16).padStart(4, '0')),
        })),
      );
      await publishCoins(storage, device.access, coins);
      await device.letTimePass();
      const report = await reconcileCoins(storage, device.access);
      expect(outcomes(report)).toMatchObject({ IN_STOCK: { length: 1000 }, TO_PUBLISH: { length: 3 } });
      expect(published(report)).toStrictEqual(Array(3).fill('OVER_STOCK_LIMIT'));
      expect(Object.values(report.retired)).toStrictEqual([0, 0, 0]);
    }));

  it('starts again when the service is restored in the middle', () =>
    withDevice(async (device) => {
      const storage = await device.open();
      const old = device.mint(3);
      await publishCoins(storage, device.access, old);
      let calls = 0;
      const { storage: watched, client } = stepped(storage, device.access.client, async () => {
        calls += 1;
        // The device knows the epoch, and has made no other call yet.
        if (calls === 1) await restoreService(device);
      });
      const report = await reconcileCoins(watched, { ...device.access, client });
      expect(outcomes(report)).toStrictEqual({ IN_STOCK: ids(old) });
      expect(report.published.databaseEpoch).toBe((await device.bob.count()).databaseEpoch);
    }));
});

/** Returns coins with the same ids and other key pairs. */
function otherKeys(coins: readonly MintedCoin[]): MintedCoin[] {
  return coins.map((coin) => ({
    ...coin,
    publicKey: coin.publicKey.map((byte) => byte ^ 1),
    encryptedBlob: coin.encryptedBlob.map((byte) => byte ^ 1),
  }));
}

/** Runs the test on a device that was wiped after it had published so many coins. */
async function withWiped(
  count: number,
  test: (device: Reconciled, storage: DeviceStorage, published: MintedCoin[]) => Promise<void>,
): Promise<void> {
  await withDevice(async (device) => {
    await device.open();
    await device.close();
    const wipe = await backUp(device.config);
    const storage = await device.open();
    const coins = device.mint(count);
    await publishCoins(storage, device.access, coins);
    await device.close();
    await wipe();
    await device.letTimePass();
    await test(device, await device.open(), coins);
  });
}

backend.describe('a reconcile that would retire more than half of a stock', () => {
  it('retires nothing in any category and says what to do, unless the option allows it', () =>
    // 5 SILVER, 4 BRONZE and 4 GOLD coins.
    withWiped(13, async (device, storage, published) => {
      // The vault still has two of the SILVER coins, which is less than half of them.
      const silver = published.filter(({ coinCategory }) => coinCategory === 'SILVER').slice(0, 2);
      await publishCoins(storage, device.access, silver);
      const fresh = device.mint(1);
      await storage.outbox.add(fresh);
      const refused = reconcileCoins(storage, device.access);
      await expect(refused).rejects.toBeInstanceOf(RetireManyError);
      await expect(refused).rejects.toMatchObject({
        categories: [
          { coinCategory: 'GOLD', available: 4, wouldRetire: 4 },
          { coinCategory: 'SILVER', available: 5, wouldRetire: 3 },
          { coinCategory: 'BRONZE', available: 4, wouldRetire: 4 },
        ],
        message: expect.stringContaining('4 of 4 GOLD coins and 3 of 5 SILVER coins and 4 of 4 BRONZE coins'),
      });
      await expect(reconcileCoins(storage, device.access, { retireMany: false })).rejects.toThrow('retireMany: true');
      expect(await device.statesOf(ids(published))).toStrictEqual(new Map([[State.STATE_IN_STOCK, ids(published)]]));
      expect((await device.statesOf(ids(fresh))).has(State.STATE_UNKNOWN)).toBe(true);
      const report = await reconcileCoins(storage, device.access, { retireMany: true });
      expect(report.retired).toStrictEqual({ GOLD: 4, SILVER: 3, BRONZE: 4 });
      expect(await device.fetchAll()).toStrictEqual(ids([...silver, ...fresh]));
    }));

  it('is one of 4 coins or more, and of more than half of them', () =>
    withWiped(11, async (device, storage, coins) => {
      // The vault has two of 4 SILVER coins, three of 4 BRONZE coins, and none of 3 GOLD coins.
      const of = (name: string) => coins.filter(({ coinCategory }) => coinCategory === name);
      const kept = [...of('SILVER').slice(0, 2), ...of('BRONZE').slice(0, 3)];
      await publishCoins(storage, device.access, kept);
      const report = await reconcileCoins(storage, device.access);
      expect(report.retired).toStrictEqual({ GOLD: 3, SILVER: 2, BRONZE: 1 });
      expect(await device.fetchAll()).toStrictEqual(ids(kept).sort());
    }));

  it('is not one during which coins are handed out', () =>
    withDevice(async (device) => {
      const storage = await device.open();
      const coins = device.mint(15);
      await publishCoins(storage, device.access, coins);
      await device.letTimePass();
      let calls = 0;
      const { storage: watched, client } = stepped(storage, device.access.client, async () => {
        calls += 1;
        if (calls === 1) await device.fetchAll();
      });
      const report = await reconcileCoins(watched, { ...device.access, client });
      expect(outcomes(report)).toStrictEqual({ SPENT: ids(coins) });
    }));

  it('refuses an option that is not true or false', () =>
    withDevice(async (device) => {
      const storage = await device.open();
      for (const retireMany of ['yes', 1, null] as unknown as boolean[]) {
        const refused = reconcileCoins(storage, device.access, { retireMany });
        await expect(refused).rejects.toMatchObject({ name: 'InvalidArgumentError', field: 'retireMany' });
      }
    }));
});

backend.describe('a device that uses the ids of another key again', () => {
  it('reports that each time, and no coin that it cannot open is fetched', () =>
    withWiped(12, async (device, storage, coins) => {
      const again = otherKeys(coins);
      for (let time = 0; time < 2; time += 1) {
        const { results } = await publishCoins(storage, device.access, again);
        expect(results.map(({ outcome }) => outcome)).toStrictEqual(Array(12).fill('CONFLICT'));
      }
      const fresh = device.mint(3);
      await publishCoins(storage, device.access, fresh);
      const report = await reconcileCoins(storage, device.access);
      expect(outcomes(report)).toStrictEqual({ CONFLICT: ids(coins), IN_STOCK: ids(fresh) });
      expect(report.retired).toStrictEqual({ GOLD: 4, SILVER: 4, BRONZE: 4 });
      expect(await device.fetchAll()).toStrictEqual(ids(fresh));
      const later = await publishCoins(storage, device.access, again);
      expect(later.results.map(({ outcome }) => outcome)).toStrictEqual(Array(12).fill('CONFLICT'));
    }));

  it('keeps the coin that it can open: a second key for an id that the vault holds is never sent', () =>
    withDevice(async (device) => {
      const storage = await device.open();
      const coins = device.mint(6);
      await publishCoins(storage, device.access, coins);
      await device.letTimePass();
      const samePrivateHalves = coins.map((coin) => ({ ...coin, publicKey: coin.publicKey.map((byte) => byte ^ 1) }));
      for (const other of [otherKeys(coins), samePrivateHalves]) {
        const { results } = await publishCoins(storage, device.access, other);
        expect(results.map(({ outcome }) => outcome)).toStrictEqual(Array(6).fill('CONFLICT'));
      }
      const report = await reconcileCoins(storage, device.access);
      expect(outcomes(report)).toStrictEqual({ IN_STOCK: ids(coins) });
      expect(await device.fetchAll()).toStrictEqual(ids(coins));
    }));
});
