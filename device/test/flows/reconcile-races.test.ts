import { sql } from 'kysely';
import type { Coin } from '../../../gen/aqm/coin/v1/coin';
import { CoinStateResult_State as State } from '../../../gen/aqm/coin/v1/coin_service';
import { ids, mint } from '../../../testkit/coins';
import { eventually } from '../../../testkit/eventually';
import { startService, type TestService } from '../../../testkit/service';
import { IS_FULL_RUN } from '../../../testkit/tier';
import type { Outbox } from '../../contract/outbox';
import { type DeviceStorage, publishCoins, reconcileCoins } from '../../index';
import { eachBackend } from '../each-backend';
import { type OnStep, stepped } from '../steps';
import { Reconciled } from './reconcile-kit';

const backend = eachBackend();
/** More steps than a reconcile of this size has: a walk that needs more does not end. */
const MAX_STEPS = 200;

let service: TestService;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service?.stop());

const withDevice = (test: (device: Reconciled) => Promise<void>) => Reconciled.run(service, backend.harness, test);

function reconcileWith(device: Reconciled, storage: DeviceStorage, onStep: OnStep) {
  const watched = stepped(storage, device.access.client, onStep);
  return reconcileCoins(watched.storage, { ...device.access, client: watched.client });
}

/** Expects that every coin whose private half is in the vault can still be fetched. */
async function expectNothingLost(device: Reconciled, { vault }: DeviceStorage): Promise<void> {
  const held = await vault.listKeyIds();
  expect(await device.statesOf(held)).toStrictEqual(new Map([[State.STATE_IN_STOCK, held]]));
}

/** The distance of the steps that a walk visits. They are the same on both backends. */
const STRIDES = IS_FULL_RUN ? { sqlite: 1, redis: 1 } : { sqlite: 2, redis: 8 };

/**
 * Runs a reconcile again and again, with an event after its first step, then after its second, and so on.
 * @returns the number of steps.
 */
async function walk(
  { config }: Reconciled,
  run: (eventAt: (onStep: OnStep) => OnStep) => Promise<void>,
): Promise<number> {
  for (let at = 1; at <= MAX_STEPS; at += STRIDES[config.backend]) {
    let moment = 0;
    const eventAt = (onStep: OnStep) => async () => {
      moment += 1;
      if (moment === at) await onStep();
    };
    await run(eventAt);
    if (moment < at) return moment;
  }
  throw new Error(`The reconcile had not ended after ${MAX_STEPS} steps.`);
}

/** Publishes coins that the service then loses, so that the reconcile has something to publish again. */
async function loseSome(device: Reconciled, storage: DeviceStorage): Promise<void> {
  const coins = device.mint(3);
  await publishCoins(storage, device.access, coins);
  await device.lose(ids(coins));
}

backend.describe('a publish that runs while a reconcile lists the vault', () => {
  it('loses no coin, whichever step of the reconcile it falls between', () =>
    withDevice(async (device) => {
      const [storage, other] = [await device.open(), await device.open()];
      const steps = await walk(device, async (eventAt) => {
        await loseSome(device, storage);
        const publish = async () => {
          await publishCoins(other, device.access, device.mint(3));
        };
        await reconcileWith(device, storage, eventAt(publish));
      });
      expect(steps).toBeGreaterThan(15);
      await expectNothingLost(device, storage);
    }));

  it('loses no coin whose upload began before the list and ends in the middle', () =>
    withDevice(async (device) => {
      const [storage, other] = [await device.open(), await device.open()];
      const { db } = device.service.database;
      const steps = await walk(device, async (eventAt) => {
        const coins = device.mint(3);
        // Another transaction holds one of the ids, so that the upload has begun and cannot end.
        const holder = await db.startTransaction().execute();
        await sql`
          INSERT INTO coin (user_id, key_id, upload_order, expire_time, coin_category)
          VALUES (${device.bob.id}, ${coins[0]?.keyId}, 0, now(), 1)`.execute(holder);
        const publishing = publishCoins(other, device.access, coins);
        await uploadWaits(device);
        let released: Promise<unknown> | undefined;
        const release = async () => {
          released ??= holder.rollback().execute();
          await released;
          await publishing;
        };
        const waiting = { ...storage, outbox: addingAfter(storage.outbox, release) };
        await reconcileWith(device, waiting, eventAt(release));
      });
      expect(steps).toBeGreaterThan(10);
      await expectNothingLost(device, storage);
    }));

  it('loses no coin when both run again and again, in several processes', () =>
    withDevice(async (device) => {
      const handles = await Promise.all([1, 2, 3, 4].map(() => device.open()));
      const work = handles.map(async (storage, index) => {
        for (let time = 0; time < 6; time += 1) {
          if (index % 2 === 0) await publishCoins(storage, device.access, device.mint(4));
          else await reconcileCoins(storage, device.access);
        }
      });
      await Promise.all(work);
      const [storage] = handles as [DeviceStorage];
      expect(await storage.vault.listKeyIds()).toHaveLength(48);
      await expectNothingLost(device, storage);
    }));
});

backend.describe('a reconcile that dies', () => {
  it('is completed by the next one, whichever step it died at', () =>
    withDevice(async (device) => {
      const storage = await device.open();
      const death = new Error('The process died here.');
      const lost: Coin[] = [];
      const steps = await walk(device, async (eventAt) => {
        await loseSome(device, storage);
        // A coin whose private half this vault has lost.
        lost.push(...mint(1));
        await device.bob.upload(lost.slice(-1));
        await device.letTimePass();
        const dying = reconcileWith(
          device,
          storage,
          eventAt(() => {
            throw death;
          }),
        );
        await dying.catch((error: unknown) => {
          if (error !== death) throw error;
        });
        await reconcileCoins(storage, device.access);
      });
      expect(steps).toBeGreaterThan(15);
      await expectNothingLost(device, storage);
      expect(await device.statesOf(ids(lost))).toStrictEqual(new Map([[State.STATE_SPENT, ids(lost)]]));
    }));
});

/** Resolves when a statement of the service waits for a lock. */
async function uploadWaits(device: Reconciled): Promise<void> {
  const isWaiting = async () => {
    const { rows } = await sql`
      SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`.execute(
      device.service.database.db,
    );
    return rows.length > 0;
  };
  await eventually('the upload waits for a lock', isWaiting);
}

/**
 * Returns an outbox that lets the upload end before anything is added: otherwise the publish at the end of a reconcile
 * would wait for it.
 */
function addingAfter(outbox: Outbox, release: () => Promise<void>): Outbox {
  return {
    add: async (minted) => {
      await release();
      return outbox.add(minted);
    },
    takeBatch: (...args) => outbox.takeBatch(...args),
    acknowledge: (keyIds) => outbox.acknowledge(keyIds),
    remove: (...args) => outbox.remove(...args),
    conflictsAmong: (keyIds) => outbox.conflictsAmong(keyIds),
    publishAgain: (...args) => outbox.publishAgain(...args),
  };
}
