import { randomUUID } from 'node:crypto';
import { dirname } from 'node:path';
import { sql } from 'kysely';
import pino from 'pino';
import { CoinUploadResult_Outcome as Outcome } from '../../../../gen/aqm/coin/v1/coin_service';
import { BRONZE, GOLD, ids, mint, SILVER } from '../../../../testkit/coins';
import { runCommand } from '../../../../testkit/command';
import { eventually } from '../../../../testkit/eventually';
import { startService, type TestService } from '../../../../testkit/service';
import type { User } from '../../../../testkit/user';
import { LIMITS } from '../../coin';
import { readConfig } from '../../config';
import { Deadline } from '../../deadline';
import { Fence } from '../../fence/fence';
import { removalOf } from '../../fence/ring-file';
import { readWatermark } from '../../fence/watermark';
import { WatermarkFolder } from '../../fence/watermark-folder';
import { CoinLimits } from '../../limits/coin-limits';
import { MemoryLimits } from '../../limits/memory-limits';
import { exportUser } from '../../store/export-user';
import { lockUser } from '../../store/user-lock';

const REMOVED = { code: 'FAILED_PRECONDITION', reason: 'DEVICE_REMOVED' };
const [PHONE, LAPTOP] = [randomUUID(), randomUUID()];
const lines: Record<string, unknown>[] = [];

let service: TestService;
let bob: User;
let alice: User;

beforeEach(async () => {
  lines.length = 0;
  const logTo = { write: (line: string) => lines.push(JSON.parse(line)) };
  service = await startService({ deletionSettleMs: 0 }, { replicas: 1, logLevel: 'info', logTo });
  [bob, alice] = await Promise.all([service.user(), service.user()]);
});
afterEach(() => service.stop());

const of = (deviceId: string, fields: object = {}) => ({
  targetUserId: bob.id,
  deviceId,
  coinCategory: BRONZE,
  count: 1,
  ...fields,
});
const waiting = async () => {
  const { rows } = await sql`
    SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`.execute(
    service.database.db,
  );
  return rows.length;
};

test('a removed device has no coins, is not listed and cannot upload, and the other devices keep all of theirs', async () => {
  await bob.upload([...mint(3), ...mint(2, GOLD), ...mint(1, SILVER)], '', PHONE);
  await bob.upload(mint(4), '', LAPTOP);
  await bob.upload(mint(5));
  const repeated = of(PHONE, { requestId: randomUUID() });
  const { coins } = await alice.fetch(repeated);
  expect(coins).toHaveLength(1);
  expect(await bob.removeDevice(PHONE.toUpperCase())).toBe(5);
  expect((await alice.fetch(of(PHONE, { count: 20, coinCategory: GOLD, allowLowerCategories: true }))).coins).toEqual(
    [],
  );
  await expect(bob.upload(mint(1), '', PHONE)).rejects.toMatchObject(REMOVED);
  expect((await bob.count(PHONE)).available).toEqual({ gold: 0, silver: 0, bronze: 0 });
  expect((await bob.devices()).map(({ deviceId, available }) => [deviceId, available?.bronze])).toEqual([
    ['', 5],
    [LAPTOP, 4],
  ]);
  // The answer to an earlier fetch stays repeatable.
  expect((await alice.fetch(repeated)).coins).toEqual(coins);
  expect(await bob.removeDevice(PHONE)).toBe(0);
  const { rows } = await sql`
    SELECT count(*)::int AS coins, count(public_key)::int AS bytes FROM coin WHERE device_id = ${PHONE}::uuid`.execute(
    service.database.db,
  );
  expect(rows).toEqual([{ coins: 6, bytes: 1 }]);
  const eve = await service.user();
  expect((await eve.upload(mint(1), '', PHONE)).insertedCount).toBe(1);
});

test('its coins are spent: another device that uploads them is told so', async () => {
  const coins = mint(2);
  await bob.upload(coins, '', PHONE);
  await bob.removeDevice(PHONE);
  const { results } = await bob.upload(coins, '', LAPTOP);
  expect(results.map(({ outcome }) => outcome)).toEqual(Array(2).fill(Outcome.OUTCOME_SPENT));
});

test('a device that is not known is removed as well, and its first upload is refused', async () => {
  expect(await bob.removeDevice(PHONE)).toBe(0);
  await expect(bob.upload(mint(1), '', PHONE)).rejects.toMatchObject(REMOVED);
  expect(await bob.devices()).toEqual([]);
  expect((await bob.count(PHONE)).available?.bronze).toBe(0);
  expect((await alice.fetch(of(PHONE))).coins).toEqual([]);
});

test('a first upload in flight is retired if it commits before the removal, and refused if it comes after', async () => {
  const { db } = service.database;
  const [coin] = mint(1);
  if (!coin) return;
  const calls: Promise<unknown>[] = [];
  // The upload waits inside of its statement, under the lock of the user, and the removal waits for that lock.
  await db.transaction().execute(async (transaction) => {
    await sql`INSERT INTO coin (user_id, key_id, upload_order, expire_time, coin_category)
      VALUES (${bob.id}::uuid, ${coin.keyId}::uuid, 0, now(), ${BRONZE})`.execute(transaction);
    calls.push(bob.upload([coin, ...mint(3)], '', PHONE));
    await eventually('the upload waits', async () => (await waiting()) === 1);
    calls.push(bob.removeDevice(PHONE));
    await eventually('the removal waits', async () => (await waiting()) === 2);
  });
  // The coin that met the row of this transaction is tried again, and refused.
  const [upload, removal] = await Promise.allSettled(calls);
  expect(upload).toMatchObject({ status: 'rejected', reason: REMOVED });
  expect(removal).toMatchObject({ value: 3 });

  const late: Promise<unknown>[] = [];
  await db.transaction().execute(async (transaction) => {
    await lockUser(bob.id).execute(transaction);
    late.push(bob.removeDevice(LAPTOP));
    await eventually('the removal waits', async () => (await waiting()) === 1);
    late.push(bob.upload(mint(2), '', LAPTOP));
    await eventually('the upload waits', async () => (await waiting()) === 2);
  });
  expect(await Promise.allSettled(late)).toMatchObject([{ value: 0 }, { status: 'rejected', reason: REMOVED }]);
  const { rows } = await sql`SELECT count(*)::int AS stock FROM coin_stock`.execute(db);
  expect(rows).toEqual([{ stock: 0 }]);
});

test('a removal waits for a coin that a claim holds: it is retired if the claim rolls back, and spent otherwise', async () => {
  const { db } = service.database;
  for (const rollsBack of [true, false]) {
    const device = randomUUID();
    await bob.upload(mint(2), '', device);
    const holder = await db.startTransaction().execute();
    const held = await sql<{ key_id: string }>`
      SELECT key_id FROM coin_stock WHERE device_id = ${device}::uuid LIMIT 1 FOR UPDATE`.execute(holder);
    const removing = bob.removeDevice(device);
    await eventually('the removal waits', async () => (await waiting()) === 1);
    if (!rollsBack) await sql`DELETE FROM coin_stock WHERE key_id = ${held.rows[0]?.key_id}::uuid`.execute(holder);
    await (rollsBack ? holder.rollback() : holder.commit()).execute();
    expect(await removing).toBe(rollsBack ? 2 : 1);
  }
});

test('removals and uploads of many devices at the same time: what was removed has no coin, whoever came first', async () => {
  const devices = Array.from({ length: 20 }, () => randomUUID());
  const outcomes = await Promise.all(
    devices.map(async (device) => {
      const uploads = Array.from({ length: 3 }, () =>
        bob.upload(mint(2), '', device).then(
          ({ insertedCount }) => insertedCount,
          (error) => {
            expect(error).toMatchObject(REMOVED);
            return 0;
          },
        ),
      );
      const retired = await bob.removeDevice(device);
      return { retired, inserted: (await Promise.all(uploads)).reduce((sum, each) => sum + each, 0) };
    }),
  );
  for (const { retired, inserted } of outcomes) expect(retired).toBe(inserted);
  const { rows } = await sql`SELECT count(*)::int AS stock FROM coin_stock`.execute(service.database.db);
  expect(rows).toEqual([{ stock: 0 }]);
});

test('RemoveDevice racing fetches: after its answer there is no coin of the device for any caller', async () => {
  const callers = await Promise.all(Array.from({ length: 12 }, () => service.user()));
  await bob.upload(mint(100), '', PHONE);
  await bob.upload(mint(100), '', LAPTOP);
  let isRemoved = false;
  let afterwards = 0;
  const got: string[] = [];
  let retired = 0;
  await Promise.all([
    ...callers.map(async (caller, index) => {
      for (let round = 0; round < 15; round += 1) {
        const begunAfter = isRemoved;
        const requests = [of(PHONE), of(LAPTOP)];
        const fetched =
          index % 2 === 0
            ? (await caller.batchFetch(requests)).results.flatMap(({ coins }) => coins)
            : (await caller.fetch(of(PHONE, { requestId: randomUUID() }))).coins;
        const ofPhone = fetched.filter(({ deviceId }) => deviceId === PHONE);
        got.push(...ids(ofPhone));
        if (begunAfter) afterwards += ofPhone.length;
      }
    }),
    (async () => {
      await eventually('a coin was fetched', () => got.length > 5);
      retired = await bob.removeDevice(PHONE);
      isRemoved = true;
    })(),
  ]);
  expect(afterwards).toBe(0);
  expect(new Set(got).size).toBe(got.length);
  expect(got.length + retired).toBe(100);
  expect((await alice.fetch(of(LAPTOP))).coins).toHaveLength(1);
});

test('the removal is forgotten once no vault can hold a private half of the device, and not before', async () => {
  await bob.removeDevice(PHONE);
  await service.age('coin_device', 'remove_time', '30 days 6 minutes');
  await service.store.forgetSpent();
  await expect(bob.upload(mint(1), '', PHONE)).rejects.toMatchObject(REMOVED);
  // A repeat does not prolong it.
  expect(await bob.removeDevice(PHONE)).toBe(0);
  await service.age('coin_device', 'remove_time', '1 day');
  await service.store.forgetSpent();
  expect((await bob.upload(mint(1), '', PHONE)).insertedCount).toBe(1);
});

test('ids of devices that are not known fill the database only to a limit, and known devices can still be removed', async () => {
  await bob.upload(mint(2), '', PHONE);
  await sql`INSERT INTO coin_device (user_id, device_id, remove_time)
    SELECT ${bob.id}::uuid, gen_random_uuid(), now() FROM generate_series(1, ${LIMITS.rememberedDevices - 2}::int)`.execute(
    service.database.db,
  );
  await bob.removeDevice(randomUUID());
  const further = { code: 'RESOURCE_EXHAUSTED', reason: 'TOO_MANY_DEVICES' };
  await expect(bob.removeDevice(randomUUID())).rejects.toMatchObject(further);
  await expect(bob.upload(mint(1), '', LAPTOP)).rejects.toMatchObject(further);
  expect((await bob.upload(mint(1), '', PHONE)).insertedCount).toBe(1);
  expect(await bob.removeDevice(PHONE)).toBe(3);
  const { rows } = await sql`SELECT count(*)::int AS devices FROM coin_device`.execute(service.database.db);
  expect(rows).toEqual([{ devices: LIMITS.rememberedDevices }]);
});

test('removals are limited together with reconciles', async () => {
  const rates = { ...readConfig({}).limits.rates, perReconciler: { perHour: 1, burst: 2 } };
  const limits = [new CoinLimits(new MemoryLimits(), rates)];
  const limited = await startService({}, { database: service.database, replicas: 1, limits });
  const owner = await limited.user();
  await owner.reconcile({ coinCategory: BRONZE });
  await owner.removeDevice(PHONE);
  await expect(owner.removeDevice(LAPTOP)).rejects.toMatchObject({ reason: 'RATE_LIMITED' });
  expect((await owner.upload(mint(1), '', LAPTOP)).insertedCount).toBe(1);
  await limited.stop();
});

test('each removal leaves a line in the log that names no user and no device', async () => {
  await bob.upload(mint(3), '', PHONE);
  await bob.removeDevice(PHONE);
  await bob.removeDevice('phone').catch(() => {});
  const found = lines.filter(({ method }) => method === 'RemoveDevice');
  expect(found).toMatchObject([
    { msg: 'device removed', retiredCount: 3, callId: expect.any(String) },
    { msg: 'device not removed', reason: 'INVALID_FIELD' },
  ]);
  expect(JSON.stringify(lines)).not.toContain(PHONE);
  expect(JSON.stringify(lines)).not.toContain(bob.id);
});

describe('a deleted user', () => {
  test('has no devices any more, removed ones included, and can remove none', async () => {
    const admin = await service.user({ isAdmin: true });
    await bob.upload(mint(2), '', PHONE);
    await bob.upload(mint(1), '', LAPTOP);
    await bob.removeDevice(LAPTOP);
    // Three coins and two devices.
    expect(await admin.deleteUser(bob.id)).toBe(5);
    await expect(bob.removeDevice(randomUUID())).rejects.toMatchObject({ reason: 'USER_DELETED' });
    expect(await bob.devices()).toEqual([]);
    const { rows } = await sql`SELECT FROM coin_device`.execute(service.database.db);
    expect(rows).toHaveLength(0);
  });
});

test('the export lists the devices, and whose each coin is', async () => {
  await bob.upload(mint(1), '', PHONE);
  await bob.upload(mint(1));
  await bob.removeDevice(LAPTOP);
  const found = await exportUser(service.database.db, bob.id, Deadline.NONE);
  const [first, second] = [PHONE, LAPTOP].sort();
  expect(found.devices.map(({ deviceId }) => deviceId)).toEqual([null, first, second]);
  expect(found.devices.find(({ deviceId }) => deviceId === LAPTOP)).toEqual({
    deviceId: LAPTOP,
    lastUploadTime: null,
    removeTime: expect.any(Date),
  });
  expect(found.coins.map(({ deviceId }) => deviceId)).toEqual([null, PHONE]);
});

describe('the restore fence', () => {
  const open = () =>
    Fence.open({
      db: service.database.serviceDb,
      folder: dirname(service.fence.watermarkFolder),
      poolSize: 20,
      log: pino({ level: 'silent' }),
    });
  /** Opens the fence again on the same folder, as the next start of a service does. */
  async function reasonAfterRestart(): Promise<string | undefined> {
    const fence = await open();
    const reason = fence.fenceReason?.reason;
    await fence.close();
    return reason;
  }
  const decide = (what: string) => {
    const env = { ...service.database.env, AQM_FENCE_DIR: dirname(service.fence.watermarkFolder) };
    return runCommand('admin', ['fence', what, '--yes'], env);
  };
  /** Makes the database one from before the removal: the device is known, and has its coins. */
  async function undoRemoval(deviceId: string): Promise<void> {
    const { db } = service.database;
    await sql`UPDATE coin_device SET remove_time = NULL WHERE device_id = ${deviceId}::uuid`.execute(db);
    await sql`DELETE FROM coin_device WHERE last_upload_time IS NULL`.execute(db);
    await sql`INSERT INTO coin_stock (user_id, device_id, coin_category, upload_order, key_id, expire_time)
      SELECT user_id, device_id, coin_category, upload_order, key_id, expire_time FROM coin
      WHERE device_id = ${deviceId}::uuid`.execute(db);
    await sql`UPDATE coin SET public_key = ''::bytea, signature = ''::bytea WHERE device_id = ${deviceId}::uuid`.execute(
      db,
    );
  }

  test('stays open after a removal, after a repeat of it, and once it was forgotten', async () => {
    await bob.upload(mint(2), '', PHONE);
    await bob.removeDevice(PHONE);
    await bob.removeDevice(PHONE);
    await bob.removeDevice(LAPTOP);
    expect(await reasonAfterRestart()).toBeUndefined();
    const admin = await service.user({ isAdmin: true });
    await admin.deleteUser(bob.id);
    expect(await reasonAfterRestart()).toBeUndefined();
    const rings = await readWatermark(new WatermarkFolder(), service.fence.watermarkFolder, 'all');
    expect(rings.flatMap(({ records }) => records).filter(removalOf)).toEqual([]);
  });

  test.each([
    ['had coins', 2],
    ['had none', 0],
  ])('notices a database from before the removal of a device that %s', async (_what, count) => {
    // The latest hand-out is there, and only the removal is not.
    await bob.upload(mint(3), '', LAPTOP);
    await alice.fetch(of(LAPTOP));
    if (count > 0) await bob.upload(mint(count), '', PHONE);
    await bob.removeDevice(PHONE);
    await undoRemoval(PHONE);
    expect(await reasonAfterRestart()).toBe('WATERMARK_NOT_REACHED');
  });

  test('notices a missing removal although the spent coins of the device are all known', async () => {
    await bob.upload(mint(2), '', PHONE);
    await bob.removeDevice(PHONE);
    await sql`UPDATE coin_device SET remove_time = NULL`.execute(service.database.db);
    expect(await reasonAfterRestart()).toBe('WATERMARK_NOT_REACHED');
  });

  test.each(['accept', 'retire'])('after "%s" the removal is in force again, with its coins spent', async (what) => {
    await bob.upload(mint(3), '', LAPTOP);
    await bob.upload(mint(2), '', PHONE);
    await bob.removeDevice(PHONE);
    await bob.removeDevice(LAPTOP.replace(/^./, (digit) => (digit === '0' ? '1' : '0')));
    const before = await exportUser(service.database.db, bob.id, Deadline.NONE);
    await undoRemoval(PHONE);
    await service.fence.check();
    const fence = await open();
    expect(fence.fenceReason?.reason).toBe('WATERMARK_NOT_REACHED');
    await fence.close();
    expect(await decide(what)).toMatchObject({ code: 0 });
    await service.fence.check();
    await expect(bob.upload(mint(1), '', PHONE)).rejects.toMatchObject(REMOVED);
    const kept = what === 'accept' ? 3 : 0;
    expect(await bob.devices()).toMatchObject([{ deviceId: LAPTOP, available: { bronze: kept } }]);
    expect((await alice.fetch(of(PHONE))).coins).toEqual([]);
    const { rows } = await sql`
      SELECT count(*)::int AS coins, count(public_key)::int AS bytes FROM coin WHERE device_id = ${PHONE}::uuid`.execute(
      service.database.db,
    );
    expect(rows).toEqual([{ coins: 2, bytes: 0 }]);
    // A removal keeps its time, to the second that a record keeps, and so its end.
    const after = await exportUser(service.database.db, bob.id, Deadline.NONE);
    const times = [before, after].map(({ devices }) => devices.map(({ removeTime }) => removeTime?.getTime() ?? 0));
    times[0]?.forEach((time, index) => {
      expect(Math.abs(time - (times[1]?.[index] ?? 0))).toBeLessThan(1001);
    });
    expect(await reasonAfterRestart()).toBeUndefined();
  });
});
