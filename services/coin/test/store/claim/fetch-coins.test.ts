import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { BRONZE, fingerprint, GOLD, ids, mint, SILVER } from '../../../../../testkit/coins';
import { startService, type TestService } from '../../../../../testkit/service';
import type { User } from '../../../../../testkit/user';

let service: TestService;
let bob: User;
let alice: User;

beforeEach(async () => {
  service = await startService();
  [bob, alice] = await Promise.all([service.user(), service.user()]);
});
afterEach(() => service.stop());

const fetchIds = async (user: User, request: Parameters<User['fetch']>[0]) =>
  ids((await user.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 1, ...request })).coins);

describe('order', () => {
  test('coins are handed out in the order of upload, also within one upload', async () => {
    const first = mint(100);
    const second = mint(10);
    await bob.upload(first);
    await bob.upload(second);
    const got: string[] = [];
    for (let i = 0; i < 110; i++) got.push(...(await fetchIds(alice, {})));
    expect(got).toEqual(ids([...first, ...second]));
  });

  test('a fetch of several coins returns them in the order of upload, with the bytes of each', async () => {
    const coins = mint(20, GOLD);
    await bob.upload(coins);
    const answer = await alice.fetch({ targetUserId: bob.id, coinCategory: GOLD, count: 20 });
    expect(answer.coins.map(fingerprint)).toEqual(coins.map(fingerprint));
  });

  test('a fetch with fallback returns higher categories first, and the oldest coins of each first', async () => {
    const bronze = mint(3, BRONZE);
    const silver = mint(2, SILVER);
    const gold = mint(2, GOLD);
    await bob.upload([...bronze, ...silver, ...gold]);
    expect(await fetchIds(alice, { coinCategory: GOLD, count: 6, allowLowerCategories: true })).toEqual(
      ids([...gold, ...silver, ...bronze.slice(0, 2)]),
    );
  });

  test('fallback takes from lower categories only, and only if it is allowed', async () => {
    await bob.upload([...mint(1, GOLD), ...mint(1, BRONZE)]);
    expect(await fetchIds(alice, { coinCategory: SILVER, count: 5 })).toHaveLength(0);
    expect(await fetchIds(alice, { coinCategory: SILVER, count: 5, allowLowerCategories: true })).toHaveLength(1);
    expect((await bob.count()).available).toEqual({ gold: 1, silver: 0, bronze: 0 });
  });

  test('the items of one batch are served in their order', async () => {
    const coins = mint(5);
    await bob.upload(coins);
    const one = { targetUserId: bob.id, coinCategory: BRONZE };
    const { results } = await alice.batchFetch([
      { ...one, count: 2 },
      { ...one, count: 1 },
      { ...one, count: 4 },
      { ...one, count: 1 },
    ]);
    expect(results.map((result) => ids(result.coins))).toEqual([
      ids(coins.slice(0, 2)),
      ids(coins.slice(2, 3)),
      ids(coins.slice(3)),
      [],
    ]);
  });
});

describe('short stock', () => {
  test('a fetch of more coins than there are returns what there is', async () => {
    await bob.upload(mint(3));
    expect(await fetchIds(alice, { count: 20 })).toHaveLength(3);
    expect(await fetchIds(alice, { count: 20 })).toEqual([]);
  });

  test('an unknown target has the same answer as one without coins', async () => {
    await bob.upload(mint(1));
    await fetchIds(alice, {});
    const empty = await alice.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 1 });
    const unknown = await alice.fetch({ targetUserId: randomUUID(), coinCategory: BRONZE, count: 1 });
    expect(unknown).toEqual(empty);
  });

  test('a coin within 24 hours of its expiry is neither handed out nor counted', async () => {
    await bob.upload(mint(2));
    await service.age('coin_stock', 'expire_time', '22 days');
    expect(await fetchIds(alice, {})).toEqual([]);
    expect((await bob.count()).available?.bronze).toBe(0);
    await service.age('coin_stock', 'expire_time', '-1 minute');
    expect(await fetchIds(alice, {})).toHaveLength(1);
  });
});

describe('request_id', () => {
  test('a repeat returns the same coins and takes no more, also if the answer was short', async () => {
    await bob.upload(mint(3));
    const requestId = randomUUID();
    const first = await fetchIds(alice, { count: 5, requestId });
    expect(first).toHaveLength(3);
    await bob.upload(mint(5));
    expect(await fetchIds(alice, { count: 5, requestId: requestId.toUpperCase() })).toEqual(first);
    expect((await bob.count()).available?.bronze).toBe(5);
  });

  test('an empty answer is not remembered', async () => {
    const requestId = randomUUID();
    expect(await fetchIds(alice, { requestId })).toEqual([]);
    await bob.upload(mint(1));
    expect(await fetchIds(alice, { requestId })).toHaveLength(1);
  });

  test('an id belongs to its requester and its target', async () => {
    const carol = await service.user();
    await Promise.all([bob.upload(mint(2)), carol.upload(mint(1))]);
    const requestId = randomUUID();
    const ofAlice = await fetchIds(alice, { requestId });
    const ofCarol = await fetchIds(carol, { requestId });
    const otherTarget = await fetchIds(alice, { requestId, targetUserId: carol.id });
    expect(new Set([...ofAlice, ...ofCarol, ...otherTarget]).size).toBe(3);
  });

  test('a repeat with other parameters is refused as REQUEST_ID_REUSED and takes nothing', async () => {
    await bob.upload([...mint(4), ...mint(1, GOLD)]);
    const requestId = randomUUID();
    await fetchIds(alice, { requestId });
    for (const other of [{ count: 2 }, { coinCategory: GOLD }, { allowLowerCategories: true }]) {
      await expect(fetchIds(alice, { requestId, ...other })).rejects.toMatchObject({
        code: 'FAILED_PRECONDITION',
        reason: 'REQUEST_ID_REUSED',
      });
    }
    expect((await bob.count()).available).toEqual({ gold: 1, silver: 0, bronze: 3 });
  });

  test('an id makes a new request after the grace, before and after the hard delete', async () => {
    await bob.upload(mint(3));
    const admin = await service.user({ isAdmin: true });
    const requestId = randomUUID();
    const first = await fetchIds(alice, { requestId });
    await service.age('coin_fetch', 'fetch_time', '59 minutes');
    expect(await fetchIds(alice, { requestId })).toEqual(first);
    await service.age('coin_fetch', 'fetch_time', '61 minutes');
    const second = await fetchIds(alice, { requestId });
    expect(second).not.toEqual(first);
    await service.age('coin_fetch', 'fetch_time', '61 minutes');
    expect(await admin.hardDelete()).toBe(1);
    expect(await fetchIds(alice, { requestId })).not.toEqual(second);
  });

  test('items of one batch with the same id get the same coins; one with other parameters is refused', async () => {
    await bob.upload(mint(9));
    const one = { targetUserId: bob.id, coinCategory: BRONZE, count: 2, requestId: randomUUID() };
    const { results } = await alice.batchFetch([one, { ...one, requestId: '' }, one, { ...one, count: 1 }]);
    expect(results[2]?.coins).toEqual(results[0]?.coins);
    expect(results[1]?.coins).not.toEqual(results[0]?.coins);
    expect(results[3]).toMatchObject({ coins: [], error: { code: 9, reason: 'REQUEST_ID_REUSED' } });
    const [again] = (await alice.batchFetch([one])).results;
    expect(again?.coins).toEqual(results[0]?.coins);
    expect((await bob.count()).available?.bronze).toBe(5);
  });

  test('50 concurrent repeats for the last coin all get it', async () => {
    await bob.upload(mint(1));
    const requestId = randomUUID();
    const answers = await Promise.all(Array.from({ length: 50 }, () => fetchIds(alice, { requestId })));
    expect(new Set(answers.map((answer) => answer.join()))).toEqual(new Set([answers[0]?.join()]));
    expect(answers[0]).toHaveLength(1);
  });
});

test('a malformed item fails alone, with a code, a reason and the allowed values', async () => {
  await bob.upload(mint(2));
  const good = { targetUserId: bob.id, coinCategory: BRONZE, count: 1 };
  const { results } = await alice.batchFetch([good, { ...good, count: 21 }, { ...good, targetUserId: 'bob' }, good]);
  expect(results.map((result) => result.coins.length)).toEqual([1, 0, 0, 1]);
  expect(results[1]?.error).toMatchObject({ code: 3, reason: 'INVALID_FIELD' });
  expect(results[1]?.error?.message).toContain('between 1 and 20');
  expect(results[2]?.error?.message).toContain('target_user_id');
  expect(results[0]?.error).toBeUndefined();
});

test("a user's coins can be fetched by another device of the same user", async () => {
  const coins = mint(1);
  await bob.upload(coins);
  const tablet = await service.user({ id: bob.id });
  expect(await fetchIds(tablet, {})).toEqual(ids(coins));
});

test('items of one target whose fallbacks overlap share its coins, and none is handed out twice', async () => {
  const [silver, bronze] = [mint(1, SILVER), mint(3, BRONZE)];
  await bob.upload([...bronze, ...silver]);
  const { results } = await alice.batchFetch([
    { targetUserId: bob.id, coinCategory: SILVER, count: 2, allowLowerCategories: true },
    { targetUserId: bob.id, coinCategory: BRONZE, count: 2 },
    { targetUserId: bob.id, coinCategory: GOLD, count: 1, allowLowerCategories: true },
  ]);
  expect(results.map((result) => ids(result.coins))).toEqual([
    ids([...silver, ...bronze.slice(0, 1)]),
    ids(bronze.slice(1)),
    [],
  ]);
});

test('a fetch of coins that stay locked returns the free ones, or OVERLOADED if none are free', async () => {
  await service.stop();
  service = await startService({}, { timeouts: { lockTimeoutMs: 1000 } });
  [bob, alice] = await Promise.all([service.user(), service.user()]);
  const coins = mint(2);
  await bob.upload(coins);
  const { db } = service.database;
  await db.transaction().execute(async (holder) => {
    await sql`SELECT FROM coin_stock WHERE key_id = ${coins[0]?.keyId}::uuid FOR UPDATE`.execute(holder);
    expect(await fetchIds(alice, { count: 2, requestId: randomUUID() })).toEqual(ids(coins.slice(1)));
    await expect(fetchIds(alice, { count: 2, requestId: randomUUID() })).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      reason: 'OVERLOADED',
    });
  });
});
