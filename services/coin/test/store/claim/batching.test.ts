import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { BRONZE, GOLD, ids, mint, SILVER } from '../../../../../testkit/coins';
import { startService, type TestService } from '../../../../../testkit/service';
import type { User } from '../../../../../testkit/user';
import { UNNAMED_DEVICE } from '../../../coin';
import { Deadline } from '../../../deadline';
import { CancelledError, OverloadedError } from '../../../errors';
import { MAX_DETACHED } from '../../../store/claim/claim-loop';
import type { BatchingRules, CoinFetch, FetchAnswer } from '../../../store/claim/fetch-coins';
import { statementsOf } from '../statements';
import { blockedByHolder, whileHeld } from './held-stock';

const RULES: BatchingRules = { batch: 256, queues: 1, targets: 256, maxWaitMs: 60_000, stallTimeoutMs: 60_000 };

let service: TestService;

async function start(rules: Partial<BatchingRules> = {}): Promise<void> {
  service = await startService({ batching: { ...RULES, ...rules } }, { replicas: 1 });
}
afterEach(() => service.stop());

async function ownerOf(count: number, category = BRONZE): Promise<{ owner: User; minted: string[] }> {
  const owner = await service.user();
  const coins = mint(count, category);
  for (let from = 0; from < count; from += 100) await owner.upload(coins.slice(from, from + 100));
  return { owner, minted: ids(coins) };
}

function fetchFrom(owner: User, fields: Partial<CoinFetch> = {}): CoinFetch {
  return {
    targetUserId: owner.id,
    deviceId: UNNAMED_DEVICE,
    coinCategory: BRONZE,
    count: 1,
    requestId: undefined,
    allowLowerCategories: false,
    ...fields,
  };
}

/** Returns the ids of the coins of one fetch, by default for a new requester. */
async function fetchIds(
  fetch: CoinFetch,
  deadline = Deadline.NONE,
  requester: string = randomUUID(),
): Promise<string[]> {
  const [answer] = await service.store.fetchCoins(requester, [fetch], deadline);
  return idsOf(answer);
}

function idsOf(answer: FetchAnswer | undefined): string[] {
  if (!answer) throw new Error('There is no answer.');
  if ('error' in answer) throw answer.error;
  return ids(answer.coins);
}

/** Returns the number of claims that the database ran during some work. */
const claimsOf = (work: () => Promise<unknown>) => statementsOf(service, work, 'INSERT INTO coin_fetch');

/** Makes the other calls during the claim of the first one. Returns the answers to all of them. */
async function duringClaim<T>(first: () => Promise<T>, others: (() => Promise<T>)[]): Promise<T[]> {
  let waiting: Promise<T>[] = [];
  await whileHeld(
    service,
    1,
    () => {
      waiting = [first()];
    },
    async () => {
      waiting.push(...others.map((other) => other()));
    },
  );
  return Promise.all(waiting);
}

describe('fetches that arrive during a claim', () => {
  test('share the next batch, and are served in the order of arrival', async () => {
    await start();
    const { owner, minted } = await ownerOf(200);
    const once = () => fetchIds(fetchFrom(owner));
    let answers: string[][] = [];
    const statements = await claimsOf(async () => {
      answers = await duringClaim(once, Array(199).fill(once));
    });
    expect(answers.map((answer) => answer.length)).toEqual(Array(200).fill(1));
    expect(answers.flat()).toEqual(minted);
    expect(statements).toBe(2);
  });

  test('share a batch whatever their users, categories and counts', async () => {
    await start();
    const bob = await ownerOf(30);
    const carol = await ownerOf(20, GOLD);
    const dave = await ownerOf(6, SILVER);
    const fetches = [
      ...Array.from({ length: 10 }, () => () => fetchIds(fetchFrom(bob.owner, { count: 3 }))),
      ...Array.from({ length: 10 }, () => () => fetchIds(fetchFrom(carol.owner, { coinCategory: GOLD, count: 2 }))),
      ...Array.from({ length: 3 }, () => () => {
        return fetchIds(fetchFrom(dave.owner, { coinCategory: SILVER, count: 2, allowLowerCategories: true }));
      }),
    ];
    const [first, ...others] = fetches;
    if (!first) throw new Error('There are no fetches.');
    let answers: string[][] = [];
    expect(
      await claimsOf(async () => {
        answers = await duringClaim(first, others);
      }),
    ).toBe(2);
    expect(answers.flat()).toEqual([...bob.minted, ...carol.minted, ...dave.minted]);
  });

  test('get no more than the stock: the last ones get fewer coins, or fall back', async () => {
    await start();
    const { owner, minted } = await ownerOf(5, GOLD);
    const silver = mint(2, SILVER);
    await owner.upload(silver);
    const two = () => fetchIds(fetchFrom(owner, { coinCategory: GOLD, count: 2 }));
    const fallback = () => fetchIds(fetchFrom(owner, { coinCategory: GOLD, count: 3, allowLowerCategories: true }));
    const answers = await duringClaim(two, [two, fallback, two]);
    expect(answers.flat().sort()).toEqual([...minted, ...ids(silver)].sort());
    expect(answers.slice(0, 2).flat()).toEqual(minted.slice(0, 4));
  });

  test('fall back in the batch, without a statement of their own', async () => {
    await start();
    const { owner, minted } = await ownerOf(2, GOLD);
    const silver = mint(3, SILVER);
    await owner.upload(silver);
    const fallback = () => fetchIds(fetchFrom(owner, { coinCategory: GOLD, allowLowerCategories: true }));
    let answers: string[][] = [];
    const statements = await claimsOf(async () => {
      answers = await duringClaim(fallback, Array(4).fill(fallback));
    });
    expect(answers.flat()).toEqual([...minted, ...ids(silver)]);
    expect(statements).toBe(2);
  });

  test('wait for the next batch if they could take the same coins by another list of categories', async () => {
    await start();
    const { owner, minted } = await ownerOf(1, GOLD);
    const silver = mint(4, SILVER);
    await owner.upload(silver);
    const fallback = () => fetchIds(fetchFrom(owner, { coinCategory: GOLD, allowLowerCategories: true }));
    const direct = () => fetchIds(fetchFrom(owner, { coinCategory: SILVER }));
    let answers: string[][] = [];
    const statements = await claimsOf(async () => {
      answers = await duringClaim(fallback, [fallback, direct, fallback, direct]);
    });
    expect(answers[0]).toEqual(minted);
    expect(answers.slice(1).flat().sort()).toEqual(ids(silver).sort());
    expect(statements).toBe(3);
  });

  test('get the same coins if they have the same request id', async () => {
    await start();
    const { owner, minted } = await ownerOf(10);
    const requester = randomUUID();
    const fetch = fetchFrom(owner, { count: 2, requestId: randomUUID() });
    const repeat = () => fetchIds(fetch, Deadline.NONE, requester);
    const once = () => fetchIds(fetchFrom(owner));
    const answers = await duringClaim(once, [repeat, repeat, once, repeat, once]);
    expect(answers[0]).toEqual(minted.slice(0, 1));
    for (const call of [1, 2, 4]) expect(answers[call]).toEqual(minted.slice(1, 3));
    expect([answers[3], answers[5], await once()].flat()).toEqual(minted.slice(3, 6));
  });

  test('get the oldest coins although one of them repeats an earlier fetch, which needs one more statement', async () => {
    await start();
    const { owner, minted } = await ownerOf(20);
    const requester = randomUUID();
    const earlier = fetchFrom(owner, { requestId: randomUUID() });
    const repeat = () => fetchIds(earlier, Deadline.NONE, requester);
    expect(await repeat()).toEqual(minted.slice(0, 1));
    const named = () => fetchIds(fetchFrom(owner, { requestId: randomUUID() }));
    const unnamed = () => fetchIds(fetchFrom(owner));
    let answers: string[][] = [];
    const statements = await claimsOf(async () => {
      answers = await duringClaim(unnamed, [named, unnamed, repeat, named, unnamed]);
    });
    expect(answers[3]).toEqual(minted.slice(0, 1));
    expect(answers.toSpliced(3, 1).flat()).toEqual(minted.slice(1, 6));
    expect(await unnamed()).toEqual(minted.slice(6, 7));
    // The batch that contained the repeat failed, and is not counted.
    expect(statements).toBe(3);
  });

  test('get the oldest coins although another process answers one of them meanwhile', async () => {
    await start();
    const { owner, minted } = await ownerOf(20);
    const requester = randomUUID();
    const double = fetchFrom(owner, { requestId: randomUUID() });
    const once = () => fetchIds(fetchFrom(owner));
    expect(await once()).toEqual(minted.slice(0, 1));
    const { db } = service.database;
    let answers: Promise<string[]>[] = [];
    await db.transaction().execute(async (other) => {
      await sql`
INSERT INTO coin_fetch (user_id, requester_id, request_id, coin_category, coin_count, allow_lower_categories, key_ids)
VALUES (${owner.id}, ${requester}, ${double.requestId}, ${BRONZE}, 1, false, ${minted.slice(0, 1)})`.execute(other);
      answers = [fetchIds(double, Deadline.NONE, requester), once(), once()];
      for (let waiting = 0; waiting === 0; ) {
        const { rows } = await sql`
SELECT FROM pg_stat_activity WHERE wait_event = 'transactionid' AND datname = current_database()`.execute(db);
        waiting = rows.length;
      }
    });
    expect((await Promise.all(answers)).flat()).toEqual(minted.slice(0, 3));
    expect(await once()).toEqual(minted.slice(3, 4));
  });

  test('leave the queue and take nothing when their caller cancels', async () => {
    await start();
    const { owner, minted } = await ownerOf(10);
    const deadline = new Deadline(Number.POSITIVE_INFINITY, () => new Date());
    let rejected: Promise<unknown> = Promise.resolve();
    const answers = await duringClaim(
      () => fetchIds(fetchFrom(owner)),
      [
        () => {
          rejected = expect(fetchIds(fetchFrom(owner, { count: 5 }), deadline)).rejects.toBeInstanceOf(CancelledError);
          deadline.end();
          return Promise.resolve([]);
        },
        () => fetchIds(fetchFrom(owner)),
      ],
    );
    await rejected;
    expect(answers.flat()).toEqual(minted.slice(0, 2));
    expect((await owner.count()).available).toEqual({ gold: 0, silver: 0, bronze: 8 });
  });

  test('succeed although another one of their batch fails', async () => {
    await start();
    const { owner, minted } = await ownerOf(20);
    const bad = randomUUID();
    const { db } = service.database;
    await sql`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = 'data_exception'; END $$`.execute(db);
    await sql`CREATE TRIGGER refuse BEFORE INSERT ON coin_fetch FOR EACH ROW
WHEN (NEW.requester_id = ${sql.lit(bad)}::uuid) EXECUTE FUNCTION refuse()`.execute(db);
    const once = () => fetchIds(fetchFrom(owner));
    const failing = () =>
      expect(fetchIds(fetchFrom(owner), Deadline.NONE, bad))
        .rejects.toThrow()
        .then(() => []);
    const answers = await duringClaim(once, [...Array(9).fill(once), failing, ...Array(9).fill(once)]);
    // The coin that the failing fetch held for a moment may be skipped, so any one of them is left.
    const handedOut = answers.flat();
    expect(handedOut).toHaveLength(19);
    expect(minted).toEqual(expect.arrayContaining(handedOut));
    expect(new Set(handedOut).size).toBe(19);
    expect((await owner.count()).available?.bronze).toBe(1);
  });

  test('are answered while others of their batch wait for the locked coins of another user', async () => {
    await start({ stallTimeoutMs: 50 });
    const { owner, minted } = await ownerOf(3);
    const empty = await service.user();
    let locked: Promise<string[]>[] = [];
    await service.database.db.transaction().execute(async (holder) => {
      await sql`SELECT FROM coin_stock WHERE user_id = ${owner.id}::uuid FOR UPDATE`.execute(holder);
      locked = [1, 2, 3].map(() => fetchIds(fetchFrom(owner)));
      expect(await fetchIds(fetchFrom(empty))).toEqual([]);
    });
    expect((await Promise.all(locked)).flat().sort()).toEqual([...minted].sort());
  });

  test('of locked coins wait by one statement, so that they leave the connections to others', async () => {
    service = await startService({ batching: { ...RULES, stallTimeoutMs: 1 } }, { replicas: 1, poolSize: 4 });
    const { owner, minted } = await ownerOf(12);
    const other = await ownerOf(20);
    let locked: Promise<string[]>[] = [];
    await service.database.db.transaction().execute(async (holder) => {
      await sql`SELECT FROM coin_stock WHERE user_id = ${owner.id}::uuid FOR UPDATE`.execute(holder);
      locked = minted.map(() => fetchIds(fetchFrom(owner)));
      for (const keyId of other.minted) {
        expect(await fetchIds(fetchFrom(other.owner))).toEqual([keyId]);
        const waiting = await sql`
SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`.execute(holder);
        expect(waiting.rows.length).toBeLessThanOrEqual(1);
      }
    });
    expect((await Promise.all(locked)).flat().sort()).toEqual([...minted].sort());
  });

  test('of one call share a batch if they have the same list of categories', async () => {
    await start();
    const { owner, minted } = await ownerOf(3, GOLD);
    const silver = mint(7, SILVER);
    await owner.upload(silver);
    const fallback = fetchFrom(owner, { coinCategory: GOLD, allowLowerCategories: true });
    let answers: FetchAnswer[] = [];
    const statements = await claimsOf(async () => {
      answers = await service.store.fetchCoins(randomUUID(), Array(10).fill(fallback));
    });
    expect(answers.flatMap(idsOf)).toEqual([...minted, ...ids(silver)]);
    expect(statements).toBe(1);
  });

  test('do not wait for a stalled claim, until too many claims are stalled', async () => {
    await start({ stallTimeoutMs: 1 });
    const { owner, minted } = await ownerOf(20);
    const fetches: Promise<string[]>[] = [];
    const begin = () => fetches.push(fetchIds(fetchFrom(owner)));
    const statements = await claimsOf(async () => {
      await whileHeld(service, 1, begin, async () => {
        for (let others = 1; others < 10; others++) {
          begin();
          await blockedByHolder(service, Math.min(others, MAX_DETACHED) + 1);
        }
      });
      await Promise.all(fetches);
    });
    expect((await Promise.all(fetches)).flat().sort()).toEqual(minted.slice(0, fetches.length).sort());
    expect(statements).toBe(MAX_DETACHED + 2);
  });

  test('are refused if they would wait too long', async () => {
    await start({ maxWaitMs: 1 });
    const { owner, minted } = await ownerOf(2);
    const refused = () =>
      expect(fetchIds(fetchFrom(owner)))
        .rejects.toBeInstanceOf(OverloadedError)
        .then(() => []);
    expect(await duringClaim(() => fetchIds(fetchFrom(owner)), [refused])).toEqual([minted.slice(0, 1), []]);
  });
});

test.each([
  ['serves one user if the tables are distributed by user', { targets: 1 }, 4],
  ['serves no more users than the limit', { targets: 2 }, 3],
  ['serves no more fetches than the limit', { batch: 2 }, 3],
  ['serves one fetch if batching is off', { batch: 1 }, 4],
])('a statement %s', async (_, rules, statements) => {
  await start(rules);
  const owners = await Promise.all([1, 2, 3, 4].map(() => ownerOf(1)));
  const [first, ...others] = owners.map(
    ({ owner }) =>
      () =>
        fetchIds(fetchFrom(owner)),
  );
  if (!first) throw new Error('There are no fetches.');
  let answers: string[][] = [];
  expect(
    await claimsOf(async () => {
      answers = await duringClaim(first, others);
    }),
  ).toBe(statements);
  expect(answers.flat()).toEqual(owners.flatMap(({ minted }) => minted));
});
