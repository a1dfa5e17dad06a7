import { randomBytes, randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { CoinUploadResult_Outcome as Outcome } from '../../../../gen/aqm/coin/v1/coin_service';
import { BRONZE, GOLD, ids, mint, SILVER } from '../../../../testkit/coins';
import { eventually } from '../../../../testkit/eventually';
import { startService, type TestService } from '../../../../testkit/service';
import type { User } from '../../../../testkit/user';

const HOUR = 3_600_000;
let service: TestService;
let bob: User;

beforeEach(async () => {
  service = await startService({ stockLimit: 5 });
  bob = await service.user();
});
afterEach(() => service.stop());

async function outcomes(user: User, coins: Parameters<User['upload']>[0]): Promise<Outcome[]> {
  return (await user.upload(coins)).results.map((result) => result.outcome);
}

test('a repeated upload succeeds with ALREADY_PRESENT, whatever the case of the id', async () => {
  const [coin] = mint(1, GOLD);
  if (!coin) return;
  const first = await bob.upload([coin]);
  expect(first).toMatchObject({ insertedCount: 1, available: { gold: 1, silver: 0, bronze: 0 } });
  const again = await bob.upload([{ ...coin, keyId: coin.keyId.toUpperCase() }]);
  expect(again).toMatchObject({
    results: [{ keyId: coin.keyId, outcome: Outcome.OUTCOME_ALREADY_PRESENT }],
    insertedCount: 0,
    available: { gold: 1 },
  });
});

test('other key material under a stored id is CONFLICT and the stored coin stays', async () => {
  const [coin] = mint(1);
  if (!coin) return;
  await bob.upload([coin]);
  for (const other of [
    { ...coin, publicKey: randomBytes(32) },
    { ...coin, signature: randomBytes(64) },
    { ...mint(1, SILVER)[0], keyId: coin.keyId },
  ]) {
    expect(await outcomes(bob, [{ ...coin, ...other }])).toEqual([Outcome.OUTCOME_CONFLICT]);
  }
  const { coins } = await bob.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 20 });
  expect(coins).toMatchObject([{ keyId: coin.keyId, publicKey: coin.publicKey, signature: coin.signature }]);
});

test('an id that appears twice in one upload is stored once, and the second is compared with the first', async () => {
  const [coin, other] = mint(2);
  if (!coin || !other) return;
  expect(await outcomes(bob, [coin, coin, { ...other, keyId: coin.keyId }, other])).toEqual([
    Outcome.OUTCOME_INSERTED,
    Outcome.OUTCOME_ALREADY_PRESENT,
    Outcome.OUTCOME_CONFLICT,
    Outcome.OUTCOME_INSERTED,
  ]);
});

test('a coin that was handed out is SPENT, before and after its hard delete', async () => {
  const admin = await service.user({ isAdmin: true });
  const coins = mint(2);
  await bob.upload(coins);
  await bob.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 1 });
  const spent = [Outcome.OUTCOME_SPENT, Outcome.OUTCOME_ALREADY_PRESENT];
  expect(await outcomes(bob, coins)).toEqual(spent);
  await service.age('coin_fetch', 'fetch_time', '2 hours');
  expect(await admin.hardDelete()).toBe(1);
  expect(await outcomes(bob, coins)).toEqual(spent);
  const otherKey = mint(1, BRONZE, { keyId: coins[0]?.keyId });
  expect(await outcomes(bob, otherKey)).toEqual([Outcome.OUTCOME_SPENT]);
});

test('a coin within 24 hours of its expiry is EXPIRED, a later one is not', async () => {
  const soon = mint(1, BRONZE, { expireTime: new Date(Date.now() + 24 * HOUR - 60_000) });
  const past = mint(1, BRONZE, { expireTime: new Date(0) });
  const later = mint(1, BRONZE, { expireTime: new Date(Date.now() + 24 * HOUR + 60_000) });
  expect(await outcomes(bob, [...soon, ...past, ...later])).toEqual([
    Outcome.OUTCOME_EXPIRED,
    Outcome.OUTCOME_EXPIRED,
    Outcome.OUTCOME_INSERTED,
  ]);
});

test('coins beyond the stock limit of their category are refused one by one, and others accepted', async () => {
  const answer = await bob.upload([...mint(4), ...mint(1, GOLD), ...mint(3)]);
  expect(answer.results.map((result) => result.outcome)).toEqual([
    ...Array(6).fill(Outcome.OUTCOME_INSERTED),
    ...Array(2).fill(Outcome.OUTCOME_OVER_STOCK_LIMIT),
  ]);
  expect(answer.available).toEqual({ gold: 1, silver: 0, bronze: 5 });
  await bob.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 1 });
  expect(await outcomes(bob, mint(2))).toEqual([Outcome.OUTCOME_INSERTED, Outcome.OUTCOME_OVER_STOCK_LIMIT]);
});

test('simultaneous uploads of one user fill the stock to the limit exactly, at several services too', async () => {
  const other = await startService({ stockLimit: 5 }, { database: service.database });
  const bobElsewhere = await other.user({ id: bob.id });
  const { db } = service.database;
  const waiting = async () => {
    const { rows } = await sql`
      SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`.execute(db);
    return rows.length;
  };
  const first = mint(5);
  const uploads: ReturnType<User['upload']>[] = [];
  let isAnswered = false;
  // The first upload has counted the stock, and waits for a row of this transaction.
  await db.transaction().execute(async (transaction) => {
    await sql`INSERT INTO coin VALUES (${bob.id}::uuid, ${first[0]?.keyId}::uuid, 0, now(), ${BRONZE})`.execute(
      transaction,
    );
    uploads.push(bob.upload(first));
    await eventually('the first upload waits', async () => (await waiting()) === 1);
    uploads.push(bobElsewhere.upload(mint(4)));
    void uploads[1]?.then(() => {
      isAnswered = true;
    });
    await eventually('the second waits or is answered', async () => isAnswered || (await waiting()) === 2);
  });
  const counts = (await Promise.all(uploads)).map(({ insertedCount }) => insertedCount);
  expect(counts).toEqual([4, 1]);
  const more = Array.from({ length: 10 }, (_, index) => (index % 2 === 0 ? bob : bobElsewhere).upload(mint(3, GOLD)));
  const golden = (await Promise.all(more)).reduce((sum, { insertedCount }) => sum + insertedCount, 0);
  expect(golden).toBe(5);
  expect((await bob.count()).available).toMatchObject({ gold: 5, bronze: 5 });
  await other.stop();
});

test('coins past handing out do not lift the stock limit, and the next upload removes them', async () => {
  const rows = async () => {
    const { rows: found } = await sql<{ stock: number; coins: number }>`
      SELECT (SELECT count(*) FROM coin_stock)::int AS stock, count(*)::int AS coins FROM coin`.execute(
      service.database.db,
    );
    return found[0];
  };
  const past = mint(5);
  expect((await bob.upload(past)).insertedCount).toBe(5);
  await bob.upload(mint(2, GOLD));
  await sql`UPDATE coin_stock SET expire_time = now() + interval '23 hours' WHERE coin_category = ${BRONZE}`.execute(
    service.database.db,
  );
  // A coin that is uploaded again keeps its answer and its place.
  expect(await outcomes(bob, [...past.slice(0, 1), ...mint(5)])).toEqual([
    Outcome.OUTCOME_ALREADY_PRESENT,
    ...Array(4).fill(Outcome.OUTCOME_INSERTED),
    Outcome.OUTCOME_OVER_STOCK_LIMIT,
  ]);
  expect(await rows()).toEqual({ stock: 7, coins: 7 });
  const answer = await bob.upload(mint(1));
  expect(answer).toMatchObject({ insertedCount: 1, available: { gold: 2, bronze: 5 } });
  expect(await rows()).toEqual({ stock: 7, coins: 7 });
});

test('simultaneous uploads of the same ids insert each id once', async () => {
  const roomy = await startService();
  const owner = await roomy.user();
  const coins = mint(100);
  const answers = await Promise.all([
    owner.upload(coins),
    owner.upload([...coins].reverse()),
    owner.upload(coins),
    owner.upload([...coins].reverse()),
  ]);
  expect(answers.reduce((sum, answer) => sum + answer.insertedCount, 0)).toBe(100);
  for (const { results } of answers) {
    for (const { outcome } of results) {
      expect([Outcome.OUTCOME_INSERTED, Outcome.OUTCOME_ALREADY_PRESENT]).toContain(outcome);
    }
  }
  expect((await owner.count()).available?.bronze).toBe(100);
  await roomy.stop();
});

test('a user who uploads the ids of another user creates coins of its own and changes nothing else', async () => {
  const eve = await service.user();
  const coins = mint(3);
  await bob.upload(coins);
  const forged = coins.map((coin) => ({ ...coin, publicKey: randomBytes(32) }));
  expect((await eve.upload(forged)).insertedCount).toBe(3);
  const { coins: ofBob } = await eve.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 20 });
  expect(ofBob.map((coin) => coin.publicKey)).toEqual(coins.map((coin) => coin.publicKey));
  expect((await eve.count()).available?.bronze).toBe(3);
});

test('an upload with another epoch is refused completely and changes nothing', async () => {
  const { databaseEpoch } = await bob.count();
  expect((await bob.upload(mint(1), databaseEpoch.toUpperCase())).insertedCount).toBe(1);
  await expect(bob.upload(mint(1), randomUUID())).rejects.toMatchObject({
    code: 'FAILED_PRECONDITION',
    reason: 'EPOCH_CHANGED',
  });
  expect((await bob.count()).available?.bronze).toBe(1);
});

test('a missing expire_time becomes 23 days from now, and a given one is kept to the millisecond', async () => {
  const expireTime = new Date(Date.now() + 48 * HOUR + 7);
  const before = Date.now();
  await bob.upload([...mint(1), ...mint(1, BRONZE, { expireTime })]);
  const { coins } = await bob.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 2 });
  const [byDefault, given] = coins.map((coin) => coin.expireTime?.getTime() ?? 0);
  expect(given).toBe(expireTime.getTime());
  expect(byDefault).toBeGreaterThanOrEqual(before + 23 * 24 * HOUR);
  expect(byDefault).toBeLessThanOrEqual(Date.now() + 23 * 24 * HOUR);
  expect(ids(coins)).toHaveLength(2);
});
