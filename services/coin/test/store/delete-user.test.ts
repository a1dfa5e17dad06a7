import { randomUUID } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import pino from 'pino';
import { BRONZE, GOLD, ids, mint, SILVER } from '../../../../testkit/coins';
import { eventually } from '../../../../testkit/eventually';
import { startService, type TestService } from '../../../../testkit/service';
import type { User } from '../../../../testkit/user';
import { Deadline } from '../../deadline';
import { Fence } from '../../fence/fence';
import { DELETED_USER } from '../../fence/ring-file';
import { readWatermark } from '../../fence/watermark';
import { WatermarkFolder } from '../../fence/watermark-folder';
import { exportUser } from '../../store/export-user';
import { lockUser } from '../../store/user-lock';

/** No other service runs beside these tests, so a deletion need not wait for what others begin. */
const RULES = { deletionSettleMs: 0 };
const USER_DELETED = { code: 'FAILED_PRECONDITION', reason: 'USER_DELETED' };

let service: TestService;
let bob: User;
let alice: User;
let admin: User;

beforeEach(async () => {
  service = await startService(RULES, { replicas: 1, logLevel: 'silent' });
  [bob, alice, admin] = await Promise.all([service.user(), service.user(), service.user({ isAdmin: true })]);
});
afterEach(() => service.stop());

const of = (user: User, fields: object = {}) => ({ targetUserId: user.id, coinCategory: BRONZE, count: 1, ...fields });

/** Returns the number of rows in any table that name the user, by any column. */
async function rowsNaming(userId: string): Promise<number> {
  const { db } = service.database;
  const { rows: tables } = await sql<{ name: string }>`
    SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace`.execute(db);
  let found = 0;
  for (const { name } of tables) {
    const { rows } = await sql<{ n: number }>`
      SELECT count(*)::int AS n FROM ${sql.table(name)} t WHERE t::text LIKE ${`%${userId}%`}`.execute(db);
    found += rows[0]?.n ?? 0;
  }
  return found;
}

/** Gives Bob coins of every state and records of both kinds. @returns the number of all of them */
async function livelyBob(): Promise<number> {
  await bob.upload([...mint(9), ...mint(5, GOLD), ...mint(3, SILVER)]);
  await alice.upload(mint(6));
  await alice.fetch(of(bob, { count: 2 }));
  await service.age('coin_fetch', 'fetch_time', '2 hours');
  await admin.hardDelete();
  await sql`UPDATE coin_stock SET expire_time = now() WHERE coin_category = ${GOLD}`.execute(service.database.db);
  await alice.fetch(of(bob, { count: 3, requestId: randomUUID() }));
  await bob.fetch(of(bob, { coinCategory: SILVER }));
  await bob.fetch(of(alice, { count: 2 }));
  await bob.fetch(of(alice));
  // 17 coins; a fetch by Alice, one by Bob of his own, and two by Bob of hers; his unnamed device.
  return 17 + 1 + 1 + 2 + 1;
}

test('DeleteUser removes the coins of every kind and the fetches by and of the user, and nothing else', async () => {
  const all = await livelyBob();
  const carol = await service.user();
  await carol.upload(mint(4));
  await carol.fetch(of(alice));
  expect(await rowsNaming(bob.id)).toBeGreaterThan(0);
  const others = () => exportUser(service.database.db, carol.id, Deadline.NONE);
  const before = await others();

  expect(await admin.deleteUser(bob.id.toUpperCase())).toBe(all);
  expect(await rowsNaming(bob.id)).toBe(0);
  expect(await admin.deleteUser(bob.id)).toBe(0);
  expect(await others()).toEqual(before);
  expect((await alice.count()).available?.bronze).toBe(2);
  // The coin that Bob fetched from Alice stays spent, without its key bytes; the one that Carol fetched still has them.
  const { rows } = await sql`
    SELECT count(*)::int AS spent, count(c.public_key)::int AS bytes FROM coin c
    WHERE c.user_id = ${alice.id}::uuid AND NOT EXISTS (SELECT FROM coin_stock s WHERE s.key_id = c.key_id)`.execute(
    service.database.db,
  );
  expect(rows).toEqual([{ spent: 4, bytes: 1 }]);
});

test('afterwards no caller gets a coin of the user, repeats included, and the user can neither upload nor fetch', async () => {
  await bob.upload(mint(5));
  await alice.upload(mint(5));
  const request = of(bob, { count: 2, requestId: randomUUID() });
  expect((await alice.fetch(request)).coins).toHaveLength(2);
  await admin.deleteUser(bob.id);
  expect((await alice.fetch(request)).coins).toEqual([]);
  expect((await alice.batchFetch([request, of(bob)])).results).toEqual([
    { coins: [], error: undefined },
    { coins: [], error: undefined },
  ]);
  expect((await bob.count()).available).toEqual({ gold: 0, silver: 0, bronze: 0 });
  await expect(bob.upload(mint(1))).rejects.toMatchObject(USER_DELETED);
  await expect(bob.fetch(of(alice))).rejects.toMatchObject(USER_DELETED);
  await expect(bob.batchFetch([of(alice)])).rejects.toMatchObject(USER_DELETED);
  expect(await rowsNaming(bob.id)).toBe(0);
  expect((await alice.fetch(of(alice))).coins).toHaveLength(1);
});

test('a user of whom nothing is known is deleted as well, and only an admin may delete', async () => {
  await expect(alice.deleteUser(bob.id)).rejects.toMatchObject({ reason: 'SCOPE_MISSING' });
  expect((await bob.upload(mint(1))).insertedCount).toBe(1);
  const unknown = await service.user();
  expect(await admin.deleteUser(unknown.id)).toBe(0);
  await expect(unknown.upload(mint(1))).rejects.toMatchObject(USER_DELETED);
});

test('another service refuses uploads at once, and fetches by the user once it has read the deletion', async () => {
  const other = await startService(RULES, { database: service.database, replicas: 1 });
  await alice.upload(mint(5));
  const bobElsewhere = await other.user({ id: bob.id });
  await other.store.deletedUsers.read();
  expect((await bobElsewhere.fetch(of(alice))).coins).toHaveLength(1);
  await admin.deleteUser(bob.id);
  await expect(bobElsewhere.upload(mint(1))).rejects.toMatchObject(USER_DELETED);
  await other.store.deletedUsers.read();
  await expect(bobElsewhere.fetch(of(alice))).rejects.toMatchObject(USER_DELETED);
  await other.stop();
});

test('the deletion is forgotten once no device can hold a private half any more, and not before', async () => {
  await bob.upload(mint(1));
  await admin.deleteUser(bob.id);
  // The private half of a coin of the last moment is kept for 23 + 7 days.
  await service.age('database_deletion', 'delete_time', '30 days 6 minutes');
  expect(await service.store.forgetDeleted()).toBe(0);
  await expect(bob.upload(mint(1))).rejects.toMatchObject(USER_DELETED);
  await service.age('database_deletion', 'delete_time', '1 day');
  expect(await service.store.forgetDeleted()).toBe(1);
  await service.store.deletedUsers.read();
  expect((await bob.upload(mint(1))).insertedCount).toBe(1);
  expect((await bob.fetch(of(bob))).coins).toHaveLength(1);
});

/** Runs `work` while a transaction of the test is open, and returns its result after the commit. */
async function beside<T>(
  hold: (transaction: typeof service.database.db) => Promise<unknown>,
  work: () => Promise<T>,
): Promise<{ readonly result: Promise<T> }> {
  const { db } = service.database;
  let result: Promise<T> | undefined;
  await db.transaction().execute(async (transaction) => {
    await hold(transaction);
    result = work();
    result.catch(() => {});
    for (;;) {
      const { rows } = await sql`
        SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`.execute(db);
      if (rows.length > 0) return;
    }
  });
  return { result: result as Promise<T> };
}

test('an upload that is under way is deleted too, and one that waits behind the deletion is refused', async () => {
  const [coin] = mint(1);
  if (!coin) return;
  const { db } = service.database;
  const waiting = async () => {
    const { rows } = await sql`
      SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`.execute(db);
    return rows.length;
  };
  let isDeleted = false;
  const calls: Promise<unknown>[] = [];
  // The upload waits inside of its statement, which began before the deletion, for a row of this transaction.
  await db.transaction().execute(async (transaction) => {
    await sql`INSERT INTO coin VALUES (${bob.id}::uuid, ${coin.keyId}::uuid, 0, now(), ${BRONZE})`.execute(transaction);
    calls.push(bob.upload([coin, ...mint(3)]));
    await eventually('the upload waits', async () => (await waiting()) === 1);
    calls.push(
      admin.deleteUser(bob.id).then((count) => {
        isDeleted = true;
        return count;
      }),
    );
    await eventually('the deletion waits or is done', async () => isDeleted || (await waiting()) === 2);
  });
  // The uploaded coin that met the row of this transaction is tried again, and refused.
  const [upload, deletion] = await Promise.allSettled(calls);
  expect(upload).toMatchObject({ reason: USER_DELETED });
  // Four coins and the device.
  expect(deletion).toMatchObject({ value: 5 });
  expect(await rowsNaming(bob.id)).toBe(0);

  const carol = await service.user();
  const second = await beside(
    (transaction) => lockUser(carol.id).execute(transaction),
    () => Promise.allSettled([admin.deleteUser(carol.id), carol.upload(mint(2))]),
  );
  await second.result;
  expect(await rowsNaming(carol.id)).toBe(0);
  await expect(carol.upload(mint(1))).rejects.toMatchObject(USER_DELETED);
});

test('DeleteUser waits for a claim that holds a coin, and removes what that claim recorded', async () => {
  await bob.upload(mint(3));
  const { result } = await beside(
    async (transaction) => {
      await sql`DELETE FROM coin_stock WHERE key_id = (SELECT key_id FROM coin_stock LIMIT 1)`.execute(transaction);
      await sql`
        INSERT INTO coin_fetch SELECT user_id, ${alice.id}::uuid, gen_random_uuid(), now(), ${BRONZE}, 1, false, ARRAY[key_id]
        FROM coin LIMIT 1`.execute(transaction);
    },
    () => admin.deleteUser(bob.id),
  );
  // Three coins, the record and the device.
  expect(await result).toBe(5);
  expect(await rowsNaming(bob.id)).toBe(0);
});

describe('the restore fence', () => {
  const records = async () => {
    const rings = await readWatermark(new WatermarkFolder(), service.fence.watermarkFolder, 'all');
    return rings.flatMap((ring) => ring.records);
  };
  const namesInFiles = (userId: string) => {
    const bytes = Buffer.from(userId.replaceAll('-', ''), 'hex');
    const folder = service.fence.watermarkFolder;
    return readdirSync(folder).filter((file) => readFileSync(join(folder, file)).includes(bytes));
  };
  /** Opens the fence of the database again, on the same folder, as the next start of a service does. */
  async function reasonAfterRestart(): Promise<string | undefined> {
    const fence = await Fence.open({
      db: service.database.serviceDb,
      folder: join(service.fence.watermarkFolder, '..'),
      poolSize: 20,
      log: pino({ level: 'silent' }),
    });
    const reason = fence.fenceReason?.reason;
    await fence.close();
    return reason;
  }

  test('stays open after a restart, and its records do not name the user any more', async () => {
    await bob.upload(mint(5));
    await alice.fetch(of(bob, { count: 2 }));
    const request = of(bob, { requestId: randomUUID() });
    await alice.fetch(request);
    await alice.fetch(request);
    expect(namesInFiles(bob.id)).toHaveLength(1);
    await admin.deleteUser(bob.id);
    expect(namesInFiles(bob.id)).toEqual([]);
    expect((await records()).filter(({ keyId }) => keyId === DELETED_USER).length).toBeGreaterThan(0);
    expect(await reasonAfterRestart()).toBeUndefined();
  });

  test('its records lose the user too if the last hand-out is recorded after the deletion', async () => {
    await bob.upload(mint(5));
    await alice.fetch(of(bob));
    const late = (await records()).filter(({ userId }) => userId === bob.id);
    await admin.deleteUser(bob.id);
    await service.fence.run(async (token) => service.fence.recordHandedOut(token, late));
    expect(namesInFiles(bob.id)).toHaveLength(1);
    for (let second = 0; second < 10; second += 1) await service.store.deletedUsers.read();
    expect(namesInFiles(bob.id)).toEqual([]);
  });

  test('stays open where a service that is gone left records of the user', async () => {
    await bob.upload(mint(5));
    await alice.fetch(of(bob, { count: 2 }));
    const { db } = service.database;
    const folder = mkdtempSync(join(tmpdir(), 'aqm-deleted-'));
    const options = { db, folder, poolSize: 20, log: pino({ level: 'silent' }) };
    const gone = await Fence.open(options);
    const [coin] = (await exportUser(db, bob.id, Deadline.NONE)).coins.filter(({ state }) => state === 'spent');
    await gone.run(async (token) => gone.recordHandedOut(token, coin ? [{ ...coin, userId: bob.id }] : []));
    await gone.close();
    await admin.deleteUser(bob.id);
    const next = await Fence.open(options);
    expect(next.fenceReason).toBeUndefined();
    await next.close();
    rmSync(folder, { recursive: true });
  });

  test('notices a database from before the deletion, although nothing was fetched from the user', async () => {
    await bob.upload(mint(5));
    await service.store.deletedUsers.read();
    await admin.deleteUser(bob.id);
    await sql`DELETE FROM database_deletion`.execute(service.database.db);
    expect(await reasonAfterRestart()).toBe('WATERMARK_NOT_REACHED');
  });
});

test('the export has all of the user, and of others neither key bytes nor who fetched', async () => {
  await livelyBob();
  const { db } = service.database;
  const found = await exportUser(db, bob.id, Deadline.NONE);
  expect(found.deleteTime).toBeNull();
  expect(found.coins).toHaveLength(17);
  expect(found.coins.filter(({ state }) => state === 'spent')).toHaveLength(6);
  expect(found.coins.filter(({ publicKey }) => publicKey !== null)).toHaveLength(15);
  expect(found.fetchesOfUser.map(({ count, keyIds }) => [count, keyIds.length])).toEqual([
    [3, 3],
    [1, 1],
  ]);
  expect(found.fetchesByUser.map(({ targetUserId, count }) => [targetUserId, count]).sort()).toEqual(
    [
      [alice.id, 1],
      [alice.id, 2],
      [bob.id, 1],
    ].sort(),
  );
  expect(JSON.stringify({ coins: found.coins, of: found.fetchesOfUser })).not.toContain(alice.id);
  await admin.deleteUser(bob.id);
  expect(await exportUser(db, bob.id, Deadline.NONE)).toEqual({
    deleteTime: expect.any(Date),
    devices: [],
    coins: [],
    fetchesOfUser: [],
    fetchesByUser: [],
  });
});

test('DeleteUser racing fetches and uploads: after its answer there is no coin and no trace of the user', async () => {
  const callers = await Promise.all(Array.from({ length: 12 }, () => service.user()));
  await Promise.all(callers.map((caller) => caller.upload(mint(40))));
  await bob.upload(mint(100));
  let isDeleted = false;
  let afterwards = 0;
  const inserted: number[] = [];
  const refused = (error: { reason?: string }) => expect(error.reason).toBe('USER_DELETED');
  const race = [
    ...callers.map(async (caller, index) => {
      for (let round = 0; round < 20; round += 1) {
        const begunAfter = isDeleted;
        const request = of(bob, { requestId: round % 2 === 0 ? randomUUID() : '' });
        const { coins } = await caller.fetch(request);
        if (begunAfter) afterwards += ids(coins).length;
        if (index % 3 === 0)
          afterwards += isDeleted && begunAfter ? ids((await caller.fetch(request)).coins).length : 0;
        await bob.fetch(of(caller)).catch(refused);
      }
    }),
    ...Array.from({ length: 4 }, async () => {
      for (let round = 0; round < 20; round += 1) {
        const begunAfter = isDeleted;
        const count = await bob.upload(mint(5)).then(
          ({ insertedCount }) => insertedCount,
          (error) => {
            refused(error);
            return 0;
          },
        );
        if (begunAfter) inserted.push(count);
      }
    }),
    (async () => {
      while ((await alice.fetch(of(bob))).coins.length === 0);
      await admin.deleteUser(bob.id);
      isDeleted = true;
    })(),
  ];
  await Promise.all(race);
  expect(afterwards).toBe(0);
  expect(inserted.every((count) => count === 0)).toBe(true);
  // Fetches by the user that had begun before the deletion may be recorded after it; a service waits for those.
  await admin.deleteUser(bob.id);
  expect(await rowsNaming(bob.id)).toBe(0);
});
