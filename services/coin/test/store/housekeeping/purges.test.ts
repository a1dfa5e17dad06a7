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
  await bob.upload(mint(4, GOLD));
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
  await Promise.all(owners.map((owner) => owner.upload(mint(100))));
  await service.age('coin_stock', 'upload_time', '5 days');
  await bob.upload(mint(100));
  await service.database.db.transaction().execute(async (claim) => {
    await sql`SELECT FROM coin_stock WHERE user_id = ${owners[0]?.id}::uuid FOR UPDATE`.execute(claim);
    const counts = await Promise.all([admin.purgeStale(1), admin.purgeStale(1), admin.purgeStale(1)]);
    expect(counts.reduce((sum, count) => sum + count)).toBe(2900);
  });
  expect(await rows('coin_stock')).toBe(200);
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
