import { randomUUID } from 'node:crypto';
import { credentials } from '@grpc/grpc-js';
import { sql } from 'kysely';
import { CoinAdminServiceClient } from '../../../gen/aqm/coin/v1/coin_admin_service';
import { CoinServiceClient, FetchCoinsRequest } from '../../../gen/aqm/coin/v1/coin_service';
import { call } from '../../../testkit/call';
import { BRONZE, GOLD, ids, mint, SILVER } from '../../../testkit/coins';
import { startService, type TestService, type TestServiceOptions } from '../../../testkit/service';
import type { User } from '../../../testkit/user';
import { UNNAMED_DEVICE } from '../coin';
import { Deadline } from '../deadline';
import { CancelledError, DeadlineExceededError } from '../errors';
import { whileHeld } from './store/claim/held-stock';

/** Usually long enough for a call to reach what blocks it, and short enough to wait for. */
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

/** Returns all rows that a call could change. */
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

/** True if a statement waits for the locked table of the stock. */
async function isStockWaitedFor(): Promise<boolean> {
  const { rows } = await sql`
SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE relation = 'coin_stock'::regclass AND NOT granted AND datname = current_database()`.execute(service.database.db);
  return rows.length > 0;
}

/** Runs `work` while the only connection to the database is taken. */
function whileExhausted(work: () => Promise<void>): Promise<void> {
  return service.database.serviceDb.connection().execute(work);
}

describe('while every connection to the database is taken', () => {
  test('no method changes anything after its deadline', async () => {
    await start({ poolSize: 1 });
    await owner.upload([...mint(3), ...mint(2, GOLD)]);
    await owner.fetch({ targetUserId: owner.id, coinCategory: BRONZE, count: 1 });
    await service.age('coin_fetch', 'fetch_time', '2 days');
    await service.age('coin_stock', 'upload_time', '40 days');
    const { serverTime } = await owner.count();
    const before = await contents();
    const listing = {
      coinCategory: BRONZE,
      keyIds: [],
      complete: true,
      listedAt: serverTime,
      databaseEpoch: '',
      deviceId: '',
    };
    const { token } = owner;
    const calls = [
      () => fetched(fetchOf({}), DEADLINE_MS),
      () => fetched(fetchOf({ requestId: randomUUID() }), DEADLINE_MS),
      () => {
        const requests = [fetchOf({ requestId: randomUUID() }), fetchOf({ coinCategory: GOLD, count: 2 })];
        return call(coins.batchFetchCoins.bind(coins), { requests }, token, DEADLINE_MS);
      },
      () =>
        call(coins.uploadCoins.bind(coins), { coins: mint(2), databaseEpoch: '', deviceId: '' }, token, DEADLINE_MS),
      () => call(coins.reconcileCoins.bind(coins), listing, token, DEADLINE_MS),
      () => call(coins.getInventoryCount.bind(coins), { deviceId: '' }, token, DEADLINE_MS),
      () => call(admin.purgeStale.bind(admin), { maxAgeDays: 30 }, token, DEADLINE_MS),
      () => call(admin.hardDeleteFetched.bind(admin), { graceHours: 1 }, token, DEADLINE_MS),
      () => call(admin.deleteUser.bind(admin), { userId: owner.id }, token, DEADLINE_MS),
    ];
    await whileExhausted(async () => {
      const late = calls.map((start) => expect(start()).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' }));
      await Promise.all(late);
      // Uses the same HTTP/2 connection: its response proves that the service has seen the end of
      // the other calls.
      await expect(fetched(fetchOf({ count: 0 }))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    });
    // Statements that still waited for the connection would have run before this one.
    expect(await contents()).toEqual(before);
  });

  test('no call waits for a connection beyond its deadline', async () => {
    await start({ poolSize: 1, maxCalls: 2 });
    await whileExhausted(async () => {
      for (let round = 0; round < 3; round++) {
        const calls = [fetched(fetchOf({}), DEADLINE_MS), fetched(fetchOf({}), DEADLINE_MS)];
        const answers = await Promise.allSettled(calls);
        // A call that is still in flight makes the next one fail as OVERLOADED, so that round is
        // repeated.
        const codes = answers.map((answer) => answer.status === 'rejected' && answer.reason.code);
        if (codes.includes('UNAVAILABLE')) round--;
        else expect(codes).toEqual(['DEADLINE_EXCEEDED', 'DEADLINE_EXCEEDED']);
      }
    });
  });

  test('a cancelled call ends at once, before it gets a connection', async () => {
    await start({ poolSize: 1 });
    await owner.upload(mint(3));
    const before = await contents();
    const fetches = [{ ...fetchOf({}), requestId: undefined }];
    await whileExhausted(async () => {
      const cancelled = new Deadline(Number.POSITIVE_INFINITY, () => new Date());
      const fetch = service.store.fetchCoins(owner.id, fetches, cancelled);
      cancelled.end();
      await expect(fetch).rejects.toBeInstanceOf(CancelledError);
      const past = new Deadline(1000, () => new Date(1000));
      await expect(service.store.fetchCoins(owner.id, fetches, past)).rejects.toBeInstanceOf(DeadlineExceededError);
    });
    expect(await contents()).toEqual(before);
  });
});

describe('when the deadline passes during a statement', () => {
  test('the statement may still hand out coins, and a repeat with the same request_id gets exactly those', async () => {
    await start({});
    await owner.upload([...mint(5), ...mint(5, GOLD)]);
    const minted = await inStock();
    const one = fetchOf({ requestId: randomUUID(), count: 3 });
    const two = fetchOf({ requestId: randomUUID(), coinCategory: GOLD, count: 2, allowLowerCategories: true });
    const fail = async (late: Promise<unknown>) =>
      expect(late).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED', reason: '' });
    // The first fetch runs and blocks; the second waits for the next batch until its deadline
    // passes. On a busy machine the deadline may pass before the first one runs: then both are
    // repeated with more time.
    const { db } = service.database;
    for (let deadlineMs = DEADLINE_MS, hasRun = false; !hasRun; deadlineMs *= 2) {
      await db.transaction().execute(async (holder) => {
        await sql`LOCK TABLE coin_stock IN ACCESS EXCLUSIVE MODE`.execute(holder);
        let isOver = false;
        const late = Promise.all([one, two].map((request) => fail(fetched(request, deadlineMs)))).finally(() => {
          isOver = true;
        });
        while (!hasRun && !isOver) hasRun = await isStockWaitedFor();
        await late;
      });
    }
    // A repeat waits for the original statement.
    const answers = await Promise.all([fetched(one), fetched(two)]);
    const got = answers.flatMap((answer) => ids(answer.coins));
    expect(answers.map((answer) => answer.coins.length)).toEqual([3, 2]);
    expect([...got, ...(await inStock())].sort()).toEqual(minted.sort());
  });

  test('a batch runs no further statement, and the coins of its other items stay in stock', async () => {
    await start({});
    await owner.upload([...mint(5, GOLD), ...mint(5, SILVER)]);
    // The items overlap and differ, so each needs its own statement.
    const batch = [GOLD, SILVER].map((coinCategory) => {
      return {
        ...fetchOf({ coinCategory, allowLowerCategories: true }),
        deviceId: UNNAMED_DEVICE,
        requestId: randomUUID(),
      };
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

  test('a batch returns what its earlier statements got, so that it is charged for it', async () => {
    // The batch waits that long for the lock, in vain.
    await start({ timeouts: { lockTimeoutMs: 3000 } });
    await owner.upload([...mint(1, SILVER), ...mint(1)]);
    const item = {
      targetUserId: owner.id,
      deviceId: UNNAMED_DEVICE,
      count: 1,
      allowLowerCategories: false,
      requestId: undefined,
    };
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

test('a deadline that no timer can hold is far away', async () => {
  await start({});
  const days = [24, 25, 30, 40, 49, 60, 90, 365, 3650];
  await owner.upload(mint(days.length));
  let answers: Promise<unknown> = Promise.resolve();
  await whileHeld(
    service,
    1,
    () => {
      const calls = days.map((count) => fetched(fetchOf({}), count * 86_400_000));
      answers = Promise.all(
        calls.map((call) =>
          call.then(
            ({ coins: { length } }) => length,
            ({ code }) => code,
          ),
        ),
      );
    },
    async () => undefined,
  );
  expect(await answers).toEqual(days.map(() => 1));
});

test('for any deadline a repeat with the same request_id gets what left the stock', async () => {
  await start({ poolSize: 2 });
  await owner.upload(mint(100));
  await owner.upload(mint(100));
  const minted = await inStock();
  // The deadlines range from too short for any work to unlimited.
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
