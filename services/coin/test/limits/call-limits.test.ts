import { randomUUID } from 'node:crypto';
import { Client, credentials } from '@grpc/grpc-js';
import { sql } from 'kysely';
import { bearer, callBytes } from '../../../../testkit/call';
import { BRONZE, mint } from '../../../../testkit/coins';
import { startService, type TestService } from '../../../../testkit/service';
import type { User } from '../../../../testkit/user';
import { type CoinRates, type Rate, readConfig } from '../../config';
import { CoinLimits } from '../../limits/coin-limits';
import { MemoryLimits } from '../../limits/memory-limits';

const LIMITED = { code: 'RESOURCE_EXHAUSTED', reason: 'RATE_LIMITED' };
/** Refills by one call in an hour, so that no test sees it refill. */
const slow = (burst: number): Rate => ({ perHour: 1, burst });

let service: TestService;
let alice: User;
let bob: User;

async function start(rates: Partial<CoinRates>, maxCalls = 512): Promise<void> {
  const limits = [new CoinLimits(new MemoryLimits(), { ...readConfig({}).limits.rates, ...rates })];
  service = await startService({}, { limits, maxCalls, replicas: 1 });
  [alice, bob] = [await service.user(), await service.user()];
}
afterEach(() => service.stop());

test('a caller over its budget of calls is refused whatever it calls, with a retry delay, while others are served', async () => {
  await start({ perCaller: slow(3) });
  await bob.upload(mint(3));
  for (let n = 0; n < 3; n += 1) await alice.count();
  const fetch = { targetUserId: bob.id, coinCategory: BRONZE, count: 1, requestId: randomUUID() };
  for (const refused of [
    () => alice.count(),
    () => alice.fetch(fetch),
    () => alice.batchFetch([fetch]),
    () => alice.upload(mint(1)),
    () => alice.reconcile({ coinCategory: BRONZE }),
  ]) {
    await expect(refused()).rejects.toMatchObject({ ...LIMITED, retryAfterMs: expect.any(Number) });
  }
  expect((await bob.count()).available?.bronze).toBe(3);
  // A second token of the same user has no budget of its own.
  const again = await service.user({ id: alice.id });
  await expect(again.count()).rejects.toMatchObject(LIMITED);
});

test('a request that cannot be decoded costs its caller 20 calls more', async () => {
  await start({ perCaller: slow(45) });
  const client = new Client(service.address, credentials.createInsecure());
  const garbage = Buffer.alloc(100_000, Buffer.of(0x0a, 0));
  const send = () => callBytes(client, '/aqm.coin.v1.CoinService/UploadCoins', garbage, bearer(alice.token));
  try {
    for (let n = 0; n < 2; n += 1) await expect(send()).rejects.toMatchObject({ reason: 'INVALID_FIELD' });
    for (let n = 0; n < 3; n += 1) await alice.count();
    await expect(alice.count()).rejects.toMatchObject(LIMITED);
    await bob.count();
  } finally {
    client.close();
  }
});

test('five more items of a batch cost their caller one call more', async () => {
  await start({ perCaller: slow(12) });
  const item = { targetUserId: bob.id, coinCategory: BRONZE, count: 1 };
  await alice.batchFetch(Array(46).fill(item));
  await alice.count();
  await alice.count();
  await expect(alice.count()).rejects.toMatchObject(LIMITED);
});

test('one caller gets an eighth of the places for calls, and others the rest', async () => {
  await start({}, 16);
  const { db } = service.database;
  let waiting: Promise<unknown>[] = [];
  await db.transaction().execute(async (holder) => {
    await sql`LOCK TABLE coin_stock IN ACCESS EXCLUSIVE MODE`.execute(holder);
    waiting = [alice.count(), alice.count()];
    for (let blocked = 0; blocked < 2; ) {
      const { rows } = await sql<{ blocked: number }>`
SELECT count(*)::int AS blocked FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE relation = 'coin_stock'::regclass AND NOT granted AND datname = current_database()`.execute(db);
      blocked = rows[0]?.blocked ?? 0;
    }
    await expect(alice.count()).rejects.toMatchObject(LIMITED);
    waiting.push(bob.count());
  });
  await Promise.all(waiting);
  // The places are free again.
  await Promise.all([alice.count(), alice.count()]);
});
