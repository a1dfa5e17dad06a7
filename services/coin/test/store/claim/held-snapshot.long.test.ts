import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import type { Coin } from '../../../../../gen/aqm/coin/v1/coin';
import { BRONZE, ids, mint, unnamed } from '../../../../../testkit/coins';
import { eventually } from '../../../../../testkit/eventually';
import { startService, type TestService } from '../../../../../testkit/service';
import { UNNAMED_DEVICE } from '../../../coin';

const COINS = 4000;
/** Coins for the measurements, which take 20 each. */
const MEASURED = 3500;

let service: TestService;
const owner = randomUUID();
beforeAll(async () => {
  service = await startService({ stockLimit: 2 * COINS }, { replicas: 1 });
});
afterAll(() => service.stop());

async function fetch(count: number): Promise<string[]> {
  const fetch = {
    targetUserId: owner,
    deviceId: UNNAMED_DEVICE,
    coinCategory: BRONZE,
    count,
    requestId: randomUUID(),
    allowLowerCategories: false,
  };
  const answer = await service.store.fetchOne(randomUUID(), fetch);
  if ('error' in answer) throw answer.error;
  return ids(answer.coins);
}

/** Returns the blocks that PostgreSQL reads for the fetch of one coin, on average. */
async function blocksPerFetch(): Promise<number> {
  const { db } = service.database;
  await sql`SELECT pg_stat_statements_reset(dbid => oid) FROM pg_database WHERE datname = current_database()`.execute(
    db,
  );
  for (let call = 0; call < 20; call += 1) expect(await fetch(1)).toHaveLength(1);
  const { rows } = await sql<{ blocks: number }>`
SELECT (sum(shared_blks_hit + shared_blks_read) / sum(calls))::float8 AS blocks FROM pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query LIKE '%INSERT INTO coin_fetch%'
  AND query NOT LIKE '%pg_stat_statements%'`.execute(db);
  return rows[0]?.blocks ?? 0;
}

test('a fetch reads few blocks although an old snapshot keeps all coins that were handed out', async () => {
  const { db } = service.database;
  const inTime = (coin: Coin) => ({ ...coin, expireTime: new Date(Date.now() + 20 * 86_400_000) });
  // An older coin of another device does not keep the start of the queue back.
  await service.store.uploadCoins({ userId: owner, deviceId: randomUUID() }, mint(1).map(inTime), '');
  for (let uploaded = 0; uploaded < COINS + MEASURED; uploaded += 100) {
    await service.store.uploadCoins(unnamed(owner), mint(100).map(inTime), '');
  }
  await db
    .transaction()
    .setIsolationLevel('repeatable read')
    .execute(async (report) => {
      await sql`SELECT count(*) FROM coin_stock`.execute(report);
      const before = await blocksPerFetch();
      for (let taken = 0; taken < COINS; taken += 20) await fetch(20);
      // A start is looked up in the background, and not beyond a transaction that another test of this cluster has open.
      await eventually('a fetch reads few blocks', async () => (await blocksPerFetch()) <= 3 * before);
    });
});
