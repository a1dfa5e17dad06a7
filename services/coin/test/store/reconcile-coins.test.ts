import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import {
  CoinUploadResult_Outcome as Outcome,
  CoinStateResult_State as State,
} from '../../../../gen/aqm/coin/v1/coin_service';
import { BRONZE, GOLD, ids, mint } from '../../../../testkit/coins';
import { startService, type TestService } from '../../../../testkit/service';
import type { User } from '../../../../testkit/user';
import { statementsOf } from './statements';

const HOUR = 3_600_000;
let service: TestService;
let bob: User;
let alice: User;

beforeEach(async () => {
  service = await startService();
  [bob, alice] = await Promise.all([service.user(), service.user()]);
});
afterEach(() => service.stop());

/** Puts coins into Bob's stock, as if uploaded a minute ago. @returns their ids */
async function stock(count: number, category = BRONZE, fields = {}): Promise<string[]> {
  const coins = mint(count, category, fields);
  for (let from = 0; from < count; from += 100) await bob.upload(coins.slice(from, from + 100));
  await service.age('coin_stock', 'upload_time', '1 minute');
  return ids(coins);
}

/** Returns a server_time that Bob received just now. */
async function listedNow(): Promise<Date> {
  const { serverTime } = await bob.count();
  if (!serverTime) throw new Error('GetInventoryCount returned no time.');
  return serverTime;
}

const statesOf = async (keyIds: string[], coinCategory = BRONZE) =>
  (await bob.reconcile({ coinCategory, keyIds })).results.map(({ state }) => state);
const complete = async (keyIds: string[], coinCategory = BRONZE) =>
  bob.reconcile({ coinCategory, keyIds, complete: true, listedAt: await listedNow() });
const left = async () => (await bob.count()).available;

describe('the state of an id', () => {
  test('is IN_STOCK, SPENT, EXPIRED or UNKNOWN, in the order of the ids, whatever their case', async () => {
    const [fetched, held] = (await stock(2)) as [string, string];
    const [ending] = (await stock(1, BRONZE, { expireTime: new Date(Date.now() + 25 * HOUR) })) as [string];
    await service.age('coin_stock', 'expire_time', '2 hours');
    await alice.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 1 });
    const unknown = randomUUID();
    const answer = await bob.reconcile({
      coinCategory: BRONZE,
      keyIds: [unknown, ending, held.toUpperCase(), fetched, held],
    });
    expect(answer.results).toEqual([
      { keyId: unknown, state: State.STATE_UNKNOWN },
      { keyId: ending, state: State.STATE_EXPIRED },
      { keyId: held, state: State.STATE_IN_STOCK },
      { keyId: fetched, state: State.STATE_SPENT },
      { keyId: held, state: State.STATE_IN_STOCK },
    ]);
    expect(answer).toMatchObject({ retiredCount: 0, databaseEpoch: (await bob.count()).databaseEpoch });
  });

  test('stays SPENT after the hard delete, and does not depend on the category of the request', async () => {
    const admin = await service.user({ isAdmin: true });
    const [fetched, held] = (await stock(2)) as [string, string];
    await alice.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 1 });
    await service.age('coin_fetch', 'fetch_time', '2 hours');
    expect(await admin.hardDelete()).toBe(1);
    expect(await statesOf([fetched, held], GOLD)).toEqual([State.STATE_SPENT, State.STATE_IN_STOCK]);
  });

  test("is UNKNOWN for another user's coin", async () => {
    const coins = ids(await stock(1).then((keyIds) => mint(1, BRONZE, { keyId: keyIds[0] })));
    expect((await alice.reconcile({ coinCategory: BRONZE, keyIds: coins })).results).toMatchObject([
      { state: State.STATE_UNKNOWN },
    ]);
  });

  test('is returned for 1000 ids by one statement, which also retires as many', async () => {
    const held = await stock(1000, GOLD);
    expect(await statementsOf(service, () => statesOf(held, GOLD))).toBe(1);
    expect(new Set(await statesOf(held, GOLD))).toEqual(new Set([State.STATE_IN_STOCK]));
    const listedAt = await listedNow();
    const retireAll = () => bob.reconcile({ coinCategory: GOLD, complete: true, listedAt });
    expect(await statementsOf(service, retireAll)).toBe(1);
    expect((await left())?.gold).toBe(0);
  });
});

describe('a complete list', () => {
  test('retires the unlisted coins of its category, and no others', async () => {
    const [lost, held] = (await stock(2)) as [string, string];
    const gold = await stock(1, GOLD);
    await alice.upload(mint(1));
    await service.age('coin_stock', 'upload_time', '1 minute');
    expect(await complete([held])).toMatchObject({ retiredCount: 1, results: [{ state: State.STATE_IN_STOCK }] });
    expect(await statesOf([lost, held, ...gold])).toEqual([
      State.STATE_SPENT,
      State.STATE_IN_STOCK,
      State.STATE_IN_STOCK,
    ]);
    expect(await left()).toEqual({ gold: 1, silver: 0, bronze: 1 });
    expect((await alice.count()).available?.bronze).toBe(1);
    const { coins } = await alice.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 20 });
    expect(ids(coins)).toEqual([held]);
    expect((await complete([held])).retiredCount).toBe(0);
  });

  test('retires nothing unless it is marked as complete', async () => {
    await stock(2);
    const part = await bob.reconcile({ coinCategory: BRONZE, listedAt: await listedNow() });
    expect([part.retiredCount, (await left())?.bronze]).toEqual([0, 2]);
  });

  test('retires everything if it is empty, because the vault was wiped', async () => {
    await stock(3);
    expect((await complete([])).retiredCount).toBe(3);
    expect((await left())?.bronze).toBe(0);
  });

  test('makes coins spent for ever: they cannot be uploaded again, and their key bytes are removed', async () => {
    const coins = mint(2);
    await bob.upload(coins);
    await service.age('coin_stock', 'upload_time', '1 minute');
    await complete([]);
    expect((await bob.upload(coins)).results.map(({ outcome }) => outcome)).toEqual(
      Array(2).fill(Outcome.OUTCOME_SPENT),
    );
    const bytes = sql<{ kept: number }>`SELECT count(public_key)::int AS kept FROM coin`.execute(service.database.db);
    expect((await bytes).rows).toEqual([{ kept: 0 }]);
    expect(await service.store.forgetSpent()).toBe(0);
    await service.age('coin', 'expire_time', '31 days');
    expect(await service.store.forgetSpent()).toBe(2);
  });

  test('does not retire coins that were uploaded after the vault was read, or in the same millisecond', async () => {
    const listedAt = await listedNow();
    await bob.upload(mint(2));
    const later = await bob.reconcile({ coinCategory: BRONZE, complete: true, listedAt });
    expect(later.retiredCount).toBe(0);
    await sql`UPDATE coin_stock SET upload_time = ${listedAt}`.execute(service.database.db);
    expect((await bob.reconcile({ coinCategory: BRONZE, complete: true, listedAt })).retiredCount).toBe(0);
    expect((await left())?.bronze).toBe(2);
  });

  test('leaves a coin that is too close to its expiry to the purge', async () => {
    await stock(1, BRONZE, { expireTime: new Date(Date.now() + 25 * HOUR) });
    await service.age('coin_stock', 'expire_time', '2 hours');
    expect((await complete([])).retiredCount).toBe(0);
  });

  test('is refused with another epoch and retires nothing; the right epoch in any case, or an empty one, is accepted', async () => {
    await stock(2);
    const { databaseEpoch } = await bob.count();
    const listedAt = await listedNow();
    const retire = (epoch: string) =>
      bob.reconcile({ coinCategory: BRONZE, complete: true, listedAt, databaseEpoch: epoch });
    await expect(retire(randomUUID())).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'EPOCH_CHANGED' });
    expect((await left())?.bronze).toBe(2);
    expect((await retire(databaseEpoch.toUpperCase())).retiredCount).toBe(2);
    expect((await retire('')).retiredCount).toBe(0);
  });
});

describe('a reconcile at the same time as other calls', () => {
  test('waits for a coin that a claim holds: it is retired if the claim rolls back, and spent otherwise', async () => {
    const { db } = service.database;
    for (const rollBack of [true, false]) {
      const [held] = (await stock(1)) as [string];
      const holder = await db.startTransaction().execute();
      await sql`SELECT FROM coin_stock WHERE key_id = ${held}::uuid FOR UPDATE`.execute(holder);
      const retiring = complete([]);
      await Promise.race([retiring, oneWaits()]);
      if (!rollBack) await sql`DELETE FROM coin_stock WHERE key_id = ${held}::uuid`.execute(holder);
      await (rollBack ? holder.rollback() : holder.commit()).execute();
      expect((await retiring).retiredCount).toBe(rollBack ? 1 : 0);
      expect(await statesOf([held])).toEqual([State.STATE_SPENT]);
    }

    async function oneWaits(): Promise<void> {
      for (let attempt = 0; attempt < 10_000; attempt++) {
        const { rows } = await sql`
          SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`.execute(db);
        if (rows.length > 0) return;
      }
    }
  });

  test('leaves each unlisted coin either fetched or retired, never both', async () => {
    const minted = await stock(200);
    const [listed, unlisted] = [minted.slice(0, 50), minted.slice(50)];
    const fetchers = await Promise.all(Array.from({ length: 20 }, () => service.user()));
    const fetching = fetchers.map(async (user, index) => {
      if (index % 5 === 0) return { fetched: [], retired: (await complete(listed)).retiredCount };
      const answer = await user.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 5 });
      return { fetched: ids(answer.coins), retired: 0 };
    });
    const answers = await Promise.all(fetching);
    const fetched = answers.flatMap((answer) => answer.fetched);
    const retired = answers.reduce((sum, answer) => sum + answer.retired, 0);
    expect(new Set(fetched).size).toBe(fetched.length);
    expect(retired).toBe(unlisted.filter((id) => !fetched.includes(id)).length);
    expect((await left())?.bronze).toBe(listed.filter((id) => !fetched.includes(id)).length);
    expect(await statesOf(unlisted)).toEqual(unlisted.map(() => State.STATE_SPENT));
  });

  test('never retires coins of an upload that was sent after the list was read', async () => {
    const inVault: string[] = [];
    const uploading = Array.from({ length: 10 }, async () => {
      for (let batch = 0; batch < 5; batch++) {
        const coins = mint(3);
        inVault.push(...ids(coins));
        await bob.upload(coins);
      }
    });
    const reconciling = Array.from({ length: 10 }, async () => {
      for (let round = 0; round < 5; round++) {
        const listedAt = await listedNow();
        const keyIds = [...inVault];
        // Uploads that are sent from here on are in stock when the list arrives.
        await bob.count();
        await bob.reconcile({ coinCategory: BRONZE, keyIds, complete: true, listedAt });
      }
    });
    await Promise.all([...uploading, ...reconciling]);
    expect((await left())?.bronze).toBe(150);
  });
});
