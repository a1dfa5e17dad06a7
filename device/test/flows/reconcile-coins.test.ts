import { sql } from 'kysely';
import { CoinStateResult_State as State } from '../../../gen/aqm/coin/v1/coin_service';
import { ids } from '../../../testkit/coins';
import { startService, type TestService } from '../../../testkit/service';
import { publishCoins, type ReconcileReport, reconcileCoins } from '../../index';
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
