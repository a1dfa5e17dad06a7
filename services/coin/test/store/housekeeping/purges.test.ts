import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { BRONZE, GOLD, ids, mint } from '../../../../../testkit/coins';
import { startService, type TestService } from '../../../../../testkit/service';
import type { User } from '../../../../../testkit/user';

let service: TestService;
let bob: User;
let admin: User;

beforeEach(async () => {
  service = await startService();
  [bob, admin] = await Promise.all([service.user(), service.user({ isAdmin: true })]);
});
afterEach(() => service.stop());

async function rows(table: string): Promise<number> {
  const { rows } = await sql<{ n: number }>`SELECT count(*)::int AS n FROM ${sql.table(table)}`.execute(
    service.database.db,
  );
  return rows[0]?.n ?? -1;
}

test('PurgeStale deletes coins that are too close to their expiry or too old, and no others', async () => {
  await bob.upload(mint(3));
  await service.age('coin_stock', 'expire_time', '22 days');
  // An upload of Bob's would remove them as well.
  await admin.upload(mint(4, GOLD));
  expect(await admin.purgeStale()).toBe(3);
  expect([await rows('coin'), await rows('coin_stock')]).toEqual([4, 4]);
  await service.age('coin_stock', 'upload_time', '5 days');
  expect(await admin.purgeStale(6)).toBe(0);
  expect(await admin.purgeStale(4)).toBe(4);
  expect([await rows('coin'), await rows('coin_stock')]).toEqual([0, 0]);
});

test('a purged coin was never handed out and may be uploaded again', async () => {
  const coins = mint(1);
  await bob.upload(coins);
  await service.age('coin_stock', 'upload_time', '5 days');
  await admin.purgeStale(1);
  expect((await bob.upload(coins)).insertedCount).toBe(1);
});

test('PurgeStale walks a large stock in slices, also in parallel, and skips coins that a claim holds', async () => {
  const owners = await Promise.all(Array.from({ length: 30 }, () => service.user()));
  // So many that a slice ends in the coins of the unnamed device, before coins of another device whose category is lower.
  const uploads = owners.map(async (owner) => {
    await owner.upload(mint(60));
    await owner.upload(mint(30, GOLD), '', randomUUID());
  });
  await Promise.all(uploads);
  await service.age('coin_stock', 'upload_time', '5 days');
  await bob.upload(mint(100));
  await service.database.db.transaction().execute(async (claim) => {
    await sql`SELECT FROM coin_stock WHERE user_id = ${owners[0]?.id}::uuid FOR UPDATE`.execute(claim);
    const counts = await Promise.all([admin.purgeStale(1), admin.purgeStale(1), admin.purgeStale(1)]);
    expect(counts.reduce((sum, count) => sum + count)).toBe(2610);
  });
  expect(await rows('coin_stock')).toBe(190);
});

test('HardDeleteFetched removes the coins of a request together, after the grace and not before', async () => {
  await bob.upload(mint(100));
  for (let i = 0; i < 10; i++) await admin.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 5 });
  expect(await admin.hardDelete()).toBe(0);
  await service.age('coin_fetch', 'fetch_time', '61 minutes');
  expect(await admin.hardDelete(2)).toBe(0);
  const counts = await Promise.all([admin.hardDelete(1), admin.hardDelete(), admin.hardDelete()]);
  expect(counts.reduce((sum, count) => sum + count)).toBe(50);
  expect(await rows('coin_fetch')).toBe(0);
  const { rows: left } = await sql<{ bytes: number; spent: number }>`
    SELECT count(public_key)::int AS bytes, count(*)::int AS spent FROM coin`.execute(service.database.db);
  expect(left).toEqual([{ bytes: 50, spent: 100 }]);
});

test('HardDeleteFetched skips requests with a coin that another transaction holds, and does all others', async () => {
  const owners = await Promise.all(Array.from({ length: 5 }, () => service.user()));
  for (const owner of owners) {
    await owner.upload(mint(100));
    // More requests than one statement deletes.
    for (let count = 0; count < 60; count += 1)
      await admin.fetch({ targetUserId: owner.id, coinCategory: BRONZE, count: 1 });
  }
  await service.age('coin_fetch', 'fetch_time', '2 hours');
  await service.database.db.transaction().execute(async (holder) => {
    await sql`
      SELECT FROM coin WHERE key_id IN (SELECT unnest(key_ids) FROM coin_fetch WHERE user_id = ${owners[2]?.id}::uuid)
      FOR UPDATE`.execute(holder);
    expect(await admin.hardDelete()).toBe(240);
    expect(await rows('coin_fetch')).toBe(60);
  });
  expect(await admin.hardDelete()).toBe(60);
  expect(await rows('coin_fetch')).toBe(0);
});

test('HardDeleteFetched gets past more requests than one statement reads, though all of them are held', async () => {
  await bob.upload(mint(1));
  const { db } = service.database;
  // In one transaction, so that all have the same time.
  await sql`
    INSERT INTO coin_fetch
    SELECT user_id, gen_random_uuid(), gen_random_uuid(), now() - interval '2 hours', ${BRONZE}, 1, false, ARRAY[key_id]
    FROM coin, generate_series(1, 450)`.execute(db);
  await db.transaction().execute(async (holder) => {
    await sql`SELECT FROM coin FOR UPDATE`.execute(holder);
    expect(await admin.hardDelete()).toBe(0);
  });
  expect(await rows('coin_fetch')).toBe(450);
});

test('the hard delete reads the fetches that are not due in their physical order, and once', async () => {
  const { db } = service.database;
  await sql`
    INSERT INTO coin_fetch
    SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), now() - make_interval(secs => n / 100), ${BRONZE}, 1, false,
      ARRAY[gen_random_uuid()]
    FROM generate_series(1, 20000) AS n`.execute(db);
  await sql`ANALYZE coin_fetch`.execute(db);
  await sql`SELECT pg_stat_statements_reset(dbid => oid) FROM pg_database WHERE datname = current_database()`.execute(
    db,
  );
  expect(await admin.hardDelete()).toBe(0);
  const { rows: found } = await sql<{ pages: number }>`
    SELECT sum(shared_blks_hit + shared_blks_read)::int AS pages FROM pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND query LIKE '%FROM coin_fetch f%'`.execute(db);
  // The table has about 270; a walk along its key reads 20,000.
  expect(found[0]?.pages).toBeLessThan(600);
});

test('a spent id is forgotten once no vault can hold its private half any more, and not before', async () => {
  const { store } = service;
  const coins = mint(3);
  await bob.upload(coins);
  await admin.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 2 });
  await service.age('coin_fetch', 'fetch_time', '2 hours');
  await admin.hardDelete();
  await service.age('coin', 'expire_time', `${23 + 7} days`);
  await service.age('coin', 'expire_time', '-1 minute');
  expect(await store.forgetSpent()).toBe(0);
  await service.age('coin', 'expire_time', '2 minutes');
  expect(await store.forgetSpent()).toBe(2);
  expect((await bob.upload(coins)).results.map((result) => result.keyId)).toEqual(ids(coins));
});
