import { randomUUID } from 'node:crypto';
import { credentials } from '@grpc/grpc-js';
import { sql } from 'kysely';
import { CoinAdminServiceClient } from '../../../gen/aqm/coin/v1/coin_admin_service';
import { CoinServiceClient, FetchCoinsRequest } from '../../../gen/aqm/coin/v1/coin_service';
import { call } from '../../../testkit/call';
import { BRONZE, GOLD, ids, mint, SILVER } from '../../../testkit/coins';
import { startService, type TestService, type TestServiceOptions } from '../../../testkit/service';
import type { User } from '../../../testkit/user';
import { Deadline } from '../deadline';
import { CancelledError, DeadlineExceededError } from '../errors';
import { whileHeld } from './store/claim/held-stock';

/** Long enough for a call to reach what holds it back, short enough to wait for. */
const DEADLINE_MS = 150;

let service: TestService;
let owner: User;
let coins: CoinServiceClient;
let admin: CoinAdminServiceClient;

async function start(options: TestServiceOptions): Promise<void> {
  service = await startService({}, { replicas: 1, ...options });
  owner = await service.user({ isAdmin: true });
  coins = new CoinServiceClient(service.address, credentials.createInsecure());
  admin = new CoinAdminServiceClient(service.address, credentials.createInsecure());
}
afterEach(async () => {
  coins.close();
  admin.close();
  await service.stop();
});

const fetchOf = (fields: Partial<FetchCoinsRequest>) =>
  FetchCoinsRequest.create({ targetUserId: owner.id, coinCategory: BRONZE, count: 1, ...fields });
const fetched = (request: FetchCoinsRequest, deadlineMs?: number) =>
  call(coins.fetchCoins.bind(coins), request, owner.token, deadlineMs);

/** All that a call could change. */
async function contents(): Promise<unknown> {
  const { rows } = await sql<{ stock: unknown; fetches: unknown; coins: unknown }>`
SELECT (SELECT json_agg(s ORDER BY key_id) FROM coin_stock s) AS stock,
  (SELECT json_agg(f ORDER BY request_id) FROM coin_fetch f) AS fetches,
  (SELECT json_agg(c ORDER BY key_id) FROM coin c) AS coins`.execute(service.database.db);
  return rows[0];
}

async function inStock(): Promise<string[]> {
  const { rows } = await sql<{ key_id: string }>`SELECT key_id FROM coin_stock`.execute(service.database.db);
  return rows.map((row) => row.key_id);
}

/** Runs `work` while the service has no connection to the database. */
function whileExhausted(work: () => Promise<void>): Promise<void> {
  return service.database.serviceDb.connection().execute(work);
}

describe('with every connection to the database taken', () => {
  test('no method does anything after its deadline', async () => {
    await start({ poolSize: 1 });
    await owner.upload([...mint(3), ...mint(2, GOLD)]);
    await owner.fetch({ targetUserId: owner.id, coinCategory: BRONZE, count: 1 });
    await service.age('coin_fetch', 'fetch_time', '2 days');
    await service.age('coin_stock', 'upload_time', '40 days');
    const { serverTime } = await owner.count();
    const before = await contents();
    const listing = { coinCategory: BRONZE, keyIds: [], complete: true, listedAt: serverTime, databaseEpoch: '' };
    const { token } = owner;
    const calls = [
      () => fetched(fetchOf({}), DEADLINE_MS),
      () => fetched(fetchOf({ requestId: randomUUID() }), DEADLINE_MS),
      () => {
        const requests = [fetchOf({ requestId: randomUUID() }), fetchOf({ coinCategory: GOLD, count: 2 })];
        return call(coins.batchFetchCoins.bind(coins), { requests }, token, DEADLINE_MS);
      },
      () => call(coins.uploadCoins.bind(coins), { coins: mint(2), databaseEpoch: '' }, token, DEADLINE_MS),
      () => call(coins.reconcileCoins.bind(coins), listing, token, DEADLINE_MS),
      () => call(coins.getInventoryCount.bind(coins), {}, token, DEADLINE_MS),
      () => call(admin.purgeStale.bind(admin), { maxAgeDays: 30 }, token, DEADLINE_MS),
      () => call(admin.hardDeleteFetched.bind(admin), { graceHours: 1 }, token, DEADLINE_MS),
    ];
    await whileExhausted(async () => {
      const late = calls.map((late) => expect(late()).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' }));
      await Promise.all(late);
      // On the same connection: when it is answered, the service has heard the end of the others.
      await expect(fetched(fetchOf({ count: 0 }))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    });
    // Whoever waited for the connection has had it before this.
    expect(await contents()).toEqual(before);
  });

  test('nobody waits for one longer than until the deadline', async () => {
    await start({ poolSize: 1, maxCalls: 2 });
    await whileExhausted(async () => {
      for (let round = 0; round < 3; round++) {
        const calls = [fetched(fetchOf({}), DEADLINE_MS), fetched(fetchOf({}), DEADLINE_MS)];
        const answers = await Promise.allSettled(calls);
        // A place that is still taken would make it OVERLOADED.
        const codes = answers.map((answer) => answer.status === 'rejected' && answer.reason.code);
        if (codes.includes('UNAVAILABLE')) round--;
        else expect(codes).toEqual(['DEADLINE_EXCEEDED', 'DEADLINE_EXCEEDED']);
      }
    });
  });

  test('whoever gives up ends at once, before there is a connection', async () => {
    await start({ poolSize: 1 });
    await owner.upload(mint(3));
    const before = await contents();
    const fetches = [{ ...fetchOf({}), requestId: undefined }];
    await whileExhausted(async () => {
      const given = new Deadline(Number.POSITIVE_INFINITY, () => new Date());
      const fetch = service.store.fetchCoins(owner.id, fetches, given);
      given.end();
      await expect(fetch).rejects.toBeInstanceOf(CancelledError);
      const past = new Deadline(1000, () => new Date(1000));
      await expect(service.store.fetchCoins(owner.id, fetches, past)).rejects.toBeInstanceOf(DeadlineExceededError);
    });
    expect(await contents()).toEqual(before);
  });
});

describe('a statement that runs past the deadline', () => {
  test('may still hand out; the same request_id then gets exactly what left the stock', async () => {
    await start({});
    await owner.upload([...mint(5), ...mint(5, GOLD)]);
    const minted = await inStock();
    const one = fetchOf({ requestId: randomUUID(), count: 3 });
    const two = fetchOf({ requestId: randomUUID(), coinCategory: GOLD, count: 2, allowLowerCategories: true });
    const fail = async (late: Promise<unknown>) =>
      expect(late).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED', reason: '' });
    let late: Promise<unknown>[] = [];
    // The first at work; the second waits for its turn, in vain.
    await whileHeld(
      service,
      1,
      () => {
        late = [one, two].map((request) => fail(fetched(request, DEADLINE_MS)));
      },
      async () => {
        await Promise.all(late);
      },
    );
    // Waits for the statements: for no call that came later sees what they had not done yet.
    const answers = await Promise.all([fetched(one), fetched(two)]);
    const got = answers.flatMap((answer) => ids(answer.coins));
    expect(answers.map((answer) => answer.coins.length)).toEqual([3, 2]);
    expect([...got, ...(await inStock())].sort()).toEqual(minted.sort());
  });

  test('is the last one: what a batch would have asked for after it stays in stock', async () => {
    await start({});
    await owner.upload([...mint(5, GOLD), ...mint(5, SILVER)]);
    // They overlap and differ, so each needs a statement of its own.
    const batch = [GOLD, SILVER].map((coinCategory) => {
      return { ...fetchOf({ coinCategory, allowLowerCategories: true }), requestId: randomUUID() };
    });
    const deadline = new Deadline(Number.POSITIVE_INFINITY, () => new Date());
    let answers: Promise<unknown> | undefined;
    await whileHeld(
      service,
      1,
      () => {
        answers = service.store.fetchCoins(owner.id, batch, deadline);
      },
      async () => deadline.end(),
    );
    expect(await answers).toMatchObject([{ coins: [{}] }, { error: new CancelledError() }]);
    expect(await inStock()).toHaveLength(9);
  });

  test('what a batch got before is its answer, so that it is charged for', async () => {
    // The batch waits for the lock that long, in vain.
    await start({ timeouts: { lockTimeoutMs: 3000 } });
    await owner.upload([...mint(1, SILVER), ...mint(1)]);
    const item = { targetUserId: owner.id, count: 1, allowLowerCategories: false, requestId: undefined };
    const batch = [BRONZE, SILVER].map((coinCategory) => ({ ...item, coinCategory }));
    const deadline = new Deadline(Number.POSITIVE_INFINITY, () => new Date());
    const { db } = service.database;
    const answers = await db.transaction().execute(async (holder) => {
      await sql`SELECT FROM coin_stock WHERE coin_category = ${SILVER} FOR UPDATE`.execute(holder);
      const answer = service.store.fetchCoins(owner.id, batch, deadline);
      for (let waits = 0; waits === 0; ) {
        const { rows } = await sql<{ waits: number }>`
SELECT count(*)::int AS waits FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'transactionid' AND NOT granted AND datname = current_database()`.execute(db);
        waits = rows[0]?.waits ?? 0;
      }
      deadline.end();
      return answer;
    });
    expect(answers).toMatchObject([{ coins: [{}], isRepeat: false }, { error: new CancelledError() }]);
  });
});

test('whatever the deadline, its request_id gets what left the stock', async () => {
  await start({ poolSize: 2 });
  await owner.upload(mint(100));
  await owner.upload(mint(100));
  const minted = await inStock();
  // From too short for anything to long enough for all.
  const requests = Array.from({ length: 150 }, () => fetchOf({ requestId: randomUUID() }));
  const early = await Promise.allSettled(
    requests.map((request, index) => fetched(request, index % 5 === 4 ? undefined : index)),
  );
  const codes = early.map((answer) => (answer.status === 'rejected' ? answer.reason.code : 'OK'));
  expect([...new Set(codes)].sort()).toEqual(['DEADLINE_EXCEEDED', 'OK']);
  const answers = await Promise.all(requests.map((request) => fetched(request)));
  early.forEach((answer, index) => {
    if (answer.status === 'fulfilled') expect(ids(answer.value.coins)).toEqual(ids(answers[index]?.coins ?? []));
  });
  const got = answers.flatMap((answer) => ids(answer.coins));
  expect(got).toHaveLength(150);
  expect([...got, ...(await inStock())].sort()).toEqual(minted.sort());
});
