import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { BRONZE, GOLD, ids, mint, SILVER } from '../../../../../testkit/coins';
import { IS_DISTRIBUTED, startService, type TestService } from '../../../../../testkit/service';
import { type ServiceProcess, spawnService } from '../../../../../testkit/service-process';
import type { User } from '../../../../../testkit/user';
import { statementsOf } from '../statements';

let service: TestService;
let owner: User;

beforeEach(async () => {
  service = await startService();
  owner = await service.user();
});
afterEach(() => service.stop());

async function stock(count: number, category = BRONZE): Promise<string[]> {
  const coins = mint(count, category);
  for (let from = 0; from < count; from += 100) await owner.upload(coins.slice(from, from + 100));
  return ids(coins);
}

/** Makes concurrent calls, each by a new requester. Returns the ids that each one got. */
async function race(calls: number, fetch: (user: User, call: number) => Promise<string[]>): Promise<string[][]> {
  const users = await Promise.all(Array.from({ length: calls }, () => service.user()));
  return Promise.all(users.map(fetch));
}

test('100 concurrent fetches get all of 100 coins, one each', async () => {
  const minted = await stock(100);
  const answers = await race(100, async (user) =>
    ids((await user.fetch({ targetUserId: owner.id, coinCategory: BRONZE, count: 1 })).coins),
  );
  expect(answers.map((answer) => answer.length)).toEqual(Array(100).fill(1));
  expect(answers.flat().sort()).toEqual([...minted].sort());
});

test('100 concurrent calls, single and in batches, get all of 300 coins, 3 each', async () => {
  const minted = await stock(300, SILVER);
  const one = { targetUserId: owner.id, coinCategory: SILVER };
  const answers = await race(100, async (user, call) => {
    if (call % 2 === 0) return ids((await user.fetch({ ...one, count: 3 })).coins);
    const { results } = await user.batchFetch([
      { ...one, count: 1 },
      { ...one, count: 2 },
    ]);
    return results.flatMap((result) => ids(result.coins));
  });
  expect(answers.map((answer) => answer.length)).toEqual(Array(100).fill(3));
  expect(answers.flat().sort()).toEqual([...minted].sort());
});

test('concurrent fetches with fallback get no coin twice and lose none', async () => {
  const minted = [...(await stock(40, GOLD)), ...(await stock(40, SILVER)), ...(await stock(40, BRONZE))];
  const answers = await race(40, async (user, call) => {
    const fallback = { targetUserId: owner.id, allowLowerCategories: true };
    const { results } = await user.batchFetch([
      { ...fallback, coinCategory: call % 2 === 0 ? GOLD : SILVER, count: 1 },
      { ...fallback, coinCategory: GOLD, count: 1 },
      { ...fallback, coinCategory: GOLD, count: 1, allowLowerCategories: call % 3 === 0 },
    ]);
    return results.flatMap((result) => ids(result.coins));
  });
  expect(new Set(answers.flat()).size).toBe(answers.flat().length);
  const rest = await (await service.user()).batchFetch(
    Array.from({ length: 6 }, () => ({
      targetUserId: owner.id,
      coinCategory: GOLD,
      count: 20,
      allowLowerCategories: true,
    })),
  );
  const left = rest.results.flatMap((result) => ids(result.coins));
  expect([...answers.flat(), ...left].sort()).toEqual([...minted].sort());
});

test('a fetch gets the free coin while another transaction holds the oldest one', async () => {
  const [oldest, next] = await stock(2);
  const { db } = service.database;
  const user = await service.user();
  await db.transaction().execute(async (holder) => {
    await sql`SELECT FROM coin_stock WHERE key_id = ${oldest}::uuid FOR UPDATE`.execute(holder);
    const { coins } = await user.fetch({ targetUserId: owner.id, coinCategory: BRONZE, count: 1 });
    expect(ids(coins)).toEqual([next]);
  });
});

test('a fetch that finds only locked coins gets them when the transaction that holds them rolls back', async () => {
  const minted = await stock(1);
  const { db } = service.database;
  const user = await service.user();
  const { holding, release } = await hold(minted);
  const fetching = user.fetch({ targetUserId: owner.id, coinCategory: BRONZE, count: 1 });
  await Promise.race([fetching, untilStatementWaits()]);
  release();
  await holding;
  expect(ids((await fetching).coins)).toEqual(minted);

  async function hold(keyIds: string[]) {
    let release = (): void => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const locked = Promise.withResolvers<void>();
    const holding = db.transaction().execute(async (holder) => {
      await sql`SELECT FROM coin_stock WHERE key_id = ANY (${keyIds}::uuid[]) FOR UPDATE`.execute(holder);
      locked.resolve();
      await released;
    });
    await locked.promise;
    return { holding, release };
  }

  async function untilStatementWaits(): Promise<void> {
    for (let check = 0; check < 10_000; check++) {
      const { rows } = await sql`
        SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`.execute(db);
      if (rows.length > 0) return;
    }
  }
});

describe('with two service processes on one database', () => {
  let processes: ServiceProcess[];

  beforeEach(async () => {
    processes = await Promise.all([spawnService(service), spawnService(service)]);
  });
  afterEach(async () => {
    await Promise.all(processes.map((process) => process.stop()));
  });

  test('100 concurrent fetches, single and in batches, get all of 100 coins, one each', async () => {
    const minted = await stock(100, GOLD);
    const users = await Promise.all(
      Array.from({ length: 100 }, (_, call) => service.user({ address: processes[call % 2]?.address })),
    );
    const one = { targetUserId: owner.id, coinCategory: GOLD, count: 1 };
    const answers = await Promise.all(
      users.map(async (user, call) =>
        call % 4 < 2
          ? ids((await user.fetch(one)).coins)
          : (await user.batchFetch([one])).results.flatMap((result) => ids(result.coins)),
      ),
    );
    expect(answers.map((answer) => answer.length)).toEqual(Array(100).fill(1));
    expect(answers.flat().sort()).toEqual([...minted].sort());
  });

  test('concurrent repeats of one request to both processes get the same coins', async () => {
    await stock(100);
    const requester = await service.user();
    const other = await service.user({ id: requester.id, address: processes[0]?.address });
    const third = await service.user({ id: requester.id, address: processes[1]?.address });
    const callers = [requester, other, third];
    // With all connections open the calls overlap. Otherwise the first one ends before the second
    // has a connection.
    await Promise.all(Array.from({ length: 60 }, (_, call) => callers[call % 3]?.count()));
    for (let round = 1; round <= 10; round++) {
      const request = { targetUserId: owner.id, coinCategory: BRONZE, count: 3, requestId: randomUUID() };
      const answers = await Promise.all(Array.from({ length: 30 }, (_, call) => callers[call % 3]?.fetch(request)));
      expect(new Set(answers.map((answer) => ids(answer?.coins ?? []).join())).size).toBe(1);
      expect((await owner.count()).available?.bronze).toBe(100 - 3 * round);
    }
  });
});

describe('the number of statements of a call', () => {
  test('does not grow with the number of coins', async () => {
    for (const count of [1, 100]) {
      const coins = mint(count);
      // BEGIN, the lock of the user, the upload, COMMIT.
      expect(await statementsOf(service, () => owner.upload(coins))).toBe(4);
      expect(await statementsOf(service, () => owner.upload(coins))).toBe(4);
    }
    for (const count of [1, 20, 20]) {
      const request = { targetUserId: owner.id, coinCategory: BRONZE, count };
      expect(await statementsOf(service, () => owner.fetch(request))).toBe(1);
    }
    // A second statement runs if the stock does not suffice, or if there is an earlier answer.
    const requestId = randomUUID();
    for (const request of [
      { targetUserId: owner.id, coinCategory: GOLD, count: 1 },
      { targetUserId: owner.id, coinCategory: GOLD, count: 20 },
    ]) {
      expect(await statementsOf(service, () => owner.fetch(request))).toBe(2);
    }
    const known = { targetUserId: owner.id, coinCategory: BRONZE, count: 5, requestId };
    await owner.fetch(known);
    expect(await statementsOf(service, () => owner.fetch(known))).toBe(2);
  });

  test('does not grow with the items, targets and categories of a batch, unless the tables are distributed', async () => {
    const others = await Promise.all(Array.from({ length: 10 }, () => service.user()));
    for (const other of others) for (const category of [GOLD, SILVER, BRONZE]) await other.upload(mint(20, category));
    const items = Array.from({ length: 50 }, (_, item) => ({
      targetUserId: others[item % 10]?.id ?? '',
      coinCategory: [GOLD, SILVER, BRONZE][item % 3] ?? GOLD,
      count: 2,
    }));
    for (const size of [1, 10, 50]) {
      const statements = await statementsOf(service, () => owner.batchFetch(items.slice(0, size)));
      expect(statements).toBeLessThanOrEqual(IS_DISTRIBUTED ? size : 1);
    }
    // Overlapping fallbacks of one user: at most one statement per list of categories.
    const mixed = items.map((item, index) => ({ ...item, allowLowerCategories: index % 2 === 0 }));
    expect(await statementsOf(service, () => owner.batchFetch(mixed))).toBeLessThanOrEqual(
      IS_DISTRIBUTED ? 2 * mixed.length : 5,
    );
  });
});
